//! A wolfSSL end of one DTLS association over UDP on loopback.
//!
//! It says what happens in lines of JSON, sends application data back to where it came from, and does what it is
//! told on its standard input: `update` for a KeyUpdate, `close` for close_notify. `options` below are its flags.

use std::ffi::{CStr, CString, c_int, c_void};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;

use serde_json::{Value, json};
use wolfssl_sys as wolf;

const BUFFER_LENGTH: usize = 16_384;
const COOKIE_SECRET: [u8; 32] = [7; 32];
const EXPORT_LENGTH: usize = 48;

/// What the flags say; each has one value, and lists are joined by colons.
struct Options {
    is_server: bool,
    /// The port to connect to; a server takes any free one, and says which.
    port: u16,
    certificate: CString,
    private_key: CString,
    /// `1.2` or `1.3`; both when empty.
    version: String,
    /// The groups in order of preference, by their code points. A client sends a share of the first.
    groups: Vec<c_int>,
    /// wolfSSL's names of cipher suites.
    cipher_suites: Option<CString>,
    /// Whether a server of DTLS 1.3 asks for a cookie.
    cookie: bool,
    mtu: u16,
    /// The label of what is exported.
    label: String,
}

fn options() -> Result<Options> {
    let mut options = Options {
        is_server: false,
        port: 0,
        certificate: CString::default(),
        private_key: CString::default(),
        version: String::new(),
        groups: Vec::new(),
        cipher_suites: None,
        cookie: true,
        mtu: 1200,
        label: String::new(),
    };
    let mut arguments = std::env::args().skip(1);
    while let (Some(flag), Some(value)) = (arguments.next(), arguments.next()) {
        match flag.as_str() {
            "--role" => options.is_server = value == "server",
            "--port" => options.port = value.parse().map_err(Error::other)?,
            "--certificate" => options.certificate = CString::new(value)?,
            "--key" => options.private_key = CString::new(value)?,
            "--version" => options.version = value,
            "--groups" => {
                options.groups = value
                    .split(':')
                    .map(|group| group.parse().map_err(Error::other))
                    .collect::<Result<_>>()?;
            }
            "--cipher-suites" => options.cipher_suites = Some(CString::new(value)?),
            "--cookie" => options.cookie = value == "yes",
            "--mtu" => options.mtu = value.parse().map_err(Error::other)?,
            "--label" => options.label = value,
            _ => return Err(Error::other(format!("there is no flag {flag}"))),
        }
    }
    Ok(options)
}

fn say(line: &Value) -> Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// wolfSSL's answer to a call that sets something up.
fn check(what: &str, answer: c_int) -> Result<()> {
    if answer == wolf::WOLFSSL_SUCCESS as c_int {
        return Ok(());
    }
    Err(Error::other(format!("{what}: {}", reason(answer))))
}

fn reason(code: c_int) -> String {
    let mut text = [0; 80];
    unsafe { CStr::from_ptr(wolf::wolfSSL_ERR_error_string(code as _, text.as_mut_ptr())) }
        .to_string_lossy()
        .into_owned()
}

/// Takes whatever certificate the peer has: who it is, is for the test to say.
unsafe extern "C" fn accept_any_peer(_: c_int, _: *mut wolf::WOLFSSL_X509_STORE_CTX) -> c_int {
    1
}

fn context(options: &Options) -> Result<*mut wolf::WOLFSSL_CTX> {
    unsafe {
        let method = match (options.version.as_str(), options.is_server) {
            ("1.2", false) => wolf::wolfDTLSv1_2_client_method(),
            ("1.2", true) => wolf::wolfDTLSv1_2_server_method(),
            ("1.3", false) => wolf::wolfDTLSv1_3_client_method(),
            ("1.3", true) => wolf::wolfDTLSv1_3_server_method(),
            (_, false) => wolf::wolfDTLS_client_method(),
            (_, true) => wolf::wolfDTLS_server_method(),
        };
        let context = wolf::wolfSSL_CTX_new(method);
        if context.is_null() {
            return Err(Error::other("no context"));
        }
        let format = wolf::WOLFSSL_FILETYPE_PEM as c_int;
        let (certificate, private_key) = (options.certificate.as_ptr(), options.private_key.as_ptr());
        check(
            "certificate",
            wolf::wolfSSL_CTX_use_certificate_file(context, certificate, format),
        )?;
        check(
            "key",
            wolf::wolfSSL_CTX_use_PrivateKey_file(context, private_key, format),
        )?;
        let mode = wolf::WOLFSSL_VERIFY_PEER | wolf::WOLFSSL_VERIFY_FAIL_IF_NO_PEER_CERT;
        wolf::wolfSSL_CTX_set_verify(context, mode as c_int, Some(accept_any_peer));
        if let Some(suites) = &options.cipher_suites {
            check(
                "suites",
                wolf::wolfSSL_CTX_set_cipher_list(context, suites.as_ptr()),
            )?;
        }
        if !options.groups.is_empty() {
            let mut groups = options.groups.clone();
            let count = groups.len() as c_int;
            check(
                "groups",
                wolf::wolfSSL_CTX_set_groups(context, groups.as_mut_ptr(), count),
            )?;
        }
        Ok(context)
    }
}

/// The socket, connected to the one peer there will be.
fn connected_socket(options: &Options) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    if options.is_server {
        say(&json!({"event": "listening", "port": socket.local_addr()?.port()}))?;
        let (_, peer) = socket.peek_from(&mut [0; 1])?;
        socket.connect(peer)?;
    } else {
        socket.connect((Ipv4Addr::LOCALHOST, options.port))?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// What became of a call that may have to wait for the peer.
enum Progress {
    Made,
    Waiting,
    Closed,
}

struct Association {
    ssl: *mut wolf::WOLFSSL,
    connected: bool,
}

impl Association {
    fn new(options: &Options, socket: &UdpSocket) -> Result<Self> {
        unsafe {
            let ssl = wolf::wolfSSL_new(context(options)?);
            if ssl.is_null() {
                return Err(Error::other("no association"));
            }
            check(
                "socket",
                wolf::wolfSSL_set_dtls_fd_connected(ssl, socket.as_raw_fd()),
            )?;
            wolf::wolfSSL_dtls_set_using_nonblock(ssl, 1);
            check("mtu", wolf::wolfSSL_dtls_set_mtu(ssl, options.mtu))?;
            wolf::wolfSSL_KeepArrays(ssl); // the exporter needs them
            if options.is_server && options.version != "1.2" {
                if options.cookie {
                    let (secret, length) = (COOKIE_SECRET.as_ptr(), COOKIE_SECRET.len() as u32);
                    check("cookie", wolf::wolfSSL_send_hrr_cookie(ssl, secret, length))?;
                    // The parts of a ClientHello are kept once its sender has shown a cookie.
                    check("fragments", wolf::wolfSSL_dtls13_allow_ch_frag(ssl, 1))?;
                } else {
                    check("cookie", wolf::wolfSSL_disable_hrr_cookie(ssl))?;
                }
            }
            Ok(Self {
                ssl,
                connected: false,
            })
        }
    }

    fn progress(&self, answer: c_int) -> Result<Progress> {
        if answer > 0 {
            return Ok(Progress::Made);
        }
        let code = unsafe { wolf::wolfSSL_get_error(self.ssl, answer) };
        if code == wolf::WOLFSSL_ERROR_WANT_READ as c_int || code == wolf::WOLFSSL_ERROR_WANT_WRITE as c_int {
            return Ok(Progress::Waiting);
        }
        if code == wolf::WOLFSSL_ERROR_ZERO_RETURN as c_int {
            return Ok(Progress::Closed);
        }
        let history = unsafe {
            let mut history = std::mem::zeroed();
            wolf::wolfSSL_get_alert_history(self.ssl, &mut history);
            history
        };
        say(&json!({
            "event": "failed",
            "reason": reason(code),
            "alert_received": history.last_rx.code,
            "alert_sent": history.last_tx.code,
        }))?;
        Err(Error::new(ErrorKind::ConnectionAborted, reason(code)))
    }

    /// Go on with whatever has come. Says false when the peer has closed.
    fn advance(&mut self, label: &str) -> Result<bool> {
        if !self.connected {
            let answer = unsafe { wolf::wolfSSL_negotiate(self.ssl) };
            match self.progress(answer)? {
                Progress::Made => self.complete(label)?,
                Progress::Waiting => return Ok(true),
                Progress::Closed => return Ok(false),
            }
        }
        let mut data = [0_u8; BUFFER_LENGTH];
        loop {
            let answer = unsafe {
                wolf::wolfSSL_read(
                    self.ssl,
                    data.as_mut_ptr().cast::<c_void>(),
                    BUFFER_LENGTH as c_int,
                )
            };
            match self.progress(answer)? {
                Progress::Made => {
                    say(&json!({"event": "data", "bytes": hex(&data[..answer as usize])}))?;
                    let sent =
                        unsafe { wolf::wolfSSL_write(self.ssl, data.as_ptr().cast::<c_void>(), answer) };
                    self.progress(sent)?;
                }
                Progress::Waiting => return Ok(true),
                Progress::Closed => return Ok(false),
            }
        }
    }

    fn complete(&mut self, label: &str) -> Result<()> {
        self.connected = true;
        let (version, group, peer_certificate) = unsafe {
            let x509 = wolf::wolfSSL_get_peer_certificate(self.ssl);
            let mut length = 0;
            let der = if x509.is_null() {
                std::ptr::null()
            } else {
                wolf::wolfSSL_X509_get_der(x509, &mut length)
            };
            let der = if der.is_null() {
                &[]
            } else {
                std::slice::from_raw_parts(der, length as usize)
            };
            (
                CStr::from_ptr(wolf::wolfSSL_get_version(self.ssl)).to_string_lossy(),
                CStr::from_ptr(wolf::wolfSSL_get_curve_name(self.ssl)).to_string_lossy(),
                hex(der),
            )
        };
        let mut exported = [0_u8; EXPORT_LENGTH];
        let answer = unsafe {
            wolf::wolfSSL_export_keying_material(
                self.ssl,
                exported.as_mut_ptr(),
                exported.len(),
                label.as_ptr().cast(),
                label.len(),
                std::ptr::null(),
                0,
                0,
            )
        };
        check("exporter", answer)?;
        say(&json!({
            "event": "connected",
            "version": version,
            "cipher_suite": unsafe { wolf::wolfSSL_get_current_cipher_suite(self.ssl) },
            "group": group,
            "peer_certificate": peer_certificate,
            "exported": hex(&exported),
        }))
    }

    /// Milliseconds to wait for the peer, or -1 for as long as it takes.
    fn timeout(&self) -> c_int {
        let quick = unsafe { wolf::wolfSSL_dtls13_use_quick_timeout(self.ssl) } != 0;
        if self.connected && !quick {
            return -1;
        }
        let seconds = unsafe { wolf::wolfSSL_dtls_get_current_timeout(self.ssl) };
        // The shorter time-out, in which only ACKs are due, is a quarter of the other.
        if quick { seconds * 250 } else { seconds * 1000 }
    }

    fn handle_timeout(&self) -> Result<()> {
        let answer = unsafe { wolf::wolfSSL_dtls_got_timeout(self.ssl) };
        self.progress(answer).map(|_| ())
    }

    /// Do what the test says. Says false when that was the end.
    fn obey(&self, command: &str) -> Result<bool> {
        match command {
            "update" => check("update", unsafe { wolf::wolfSSL_update_keys(self.ssl) }).map(|()| true),
            "close" => {
                unsafe { wolf::wolfSSL_shutdown(self.ssl) };
                Ok(false)
            }
            _ => Err(Error::other(format!("there is no command {command:?}"))),
        }
    }
}

/// What is ready: the socket, the standard input; neither, when the time is up.
fn wait(socket: &UdpSocket, input_is_open: bool, milliseconds: c_int) -> Result<(bool, bool)> {
    let descriptor = |fd, wanted: bool| libc::pollfd {
        fd: if wanted { fd } else { -1 },
        events: libc::POLLIN,
        revents: 0,
    };
    let mut descriptors = [
        descriptor(socket.as_raw_fd(), true),
        descriptor(libc::STDIN_FILENO, input_is_open),
    ];
    if unsafe { libc::poll(descriptors.as_mut_ptr(), 2, milliseconds) } < 0 {
        return Err(Error::last_os_error());
    }
    Ok((descriptors[0].revents != 0, descriptors[1].revents != 0))
}

fn main() -> Result<()> {
    let options = options()?;
    let socket = connected_socket(&options)?;
    let mut association = Association::new(&options, &socket)?;
    let mut input_is_open = true;
    while association.advance(&options.label)? {
        let (_, commanded) = match wait(&socket, input_is_open, association.timeout())? {
            (false, false) => {
                association.handle_timeout()?;
                continue;
            }
            ready => ready,
        };
        if commanded {
            let mut typed = [0; 256];
            let length = std::io::stdin().read(&mut typed)?;
            input_is_open = length > 0;
            for command in String::from_utf8_lossy(&typed[..length]).lines() {
                if !association.obey(command)? {
                    return Ok(());
                }
            }
        }
    }
    say(&json!({"event": "closed"}))
}
