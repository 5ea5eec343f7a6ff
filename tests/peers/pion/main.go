// An endpoint of pion. Commands come in and events go out as JSON, one object a line.
package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"
	"github.com/pion/webrtc/v4/pkg/media/ivfwriter"
	"github.com/pion/webrtc/v4/pkg/media/oggwriter"
)

type fields map[string]any

type channelOptions struct {
	Label      string  `json:"label"`
	Ordered    *bool   `json:"ordered"`
	Negotiated *bool   `json:"negotiated"`
	ID         *uint16 `json:"id"`
}

type command struct {
	Command    string           `json:"command"`
	Audio      bool             `json:"audio"`
	Lite       bool             `json:"lite"`
	Channels   []channelOptions `json:"channels"`
	ICERestart bool             `json:"iceRestart"`
	Type       string           `json:"type"`
	SDP        string           `json:"sdp"`
	Path       string           `json:"path"`
	Candidate  string           `json:"candidate"`
	Mid        *string          `json:"mid"`
	Text       *string          `json:"text"`
	Base64     []byte           `json:"base64"`
	Packets    [][]byte         `json:"packets"`
	channelOptions
}

var output sync.Mutex

func say(event string, more fields) {
	line := fields{"event": event}
	for name, value := range more {
		line[name] = value
	}
	output.Lock()
	defer output.Unlock()
	_ = json.NewEncoder(os.Stdout).Encode(line)
}

type endpoint struct {
	peer     *webrtc.PeerConnection
	track    *webrtc.TrackLocalStaticSample
	channels sync.Map // label → *webrtc.DataChannel
	payloads []string
	lock     sync.Mutex
	saving   []*webrtc.PeerConnection
	saved    atomic.Int64
	missed   atomic.Int64
}

func newPeer(lite bool) (*webrtc.PeerConnection, error) {
	settings := webrtc.SettingEngine{}
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetIPFilter(func(ip net.IP) bool { return ip.Equal(net.IPv4(127, 0, 0, 1)) })
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	settings.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	settings.SetLite(lite)
	return webrtc.NewAPI(webrtc.WithSettingEngine(settings)).NewPeerConnection(webrtc.Configuration{})
}

func (e *endpoint) start(c command) error {
	var err error
	if e.peer, err = newPeer(c.Lite); err != nil {
		return err
	}
	e.peer.OnICECandidate(func(candidate *webrtc.ICECandidate) {
		if candidate != nil {
			init := candidate.ToJSON()
			say("candidate", fields{"candidate": init.Candidate, "mid": init.SDPMid})
		}
	})
	e.peer.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		say("state", fields{"state": state.String()})
	})
	e.peer.OnDataChannel(e.follow)
	e.peer.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) { go e.listen(track) })
	for _, options := range c.Channels {
		if err := e.open(options); err != nil {
			return err
		}
	}
	if c.Audio {
		return e.addAudio()
	}
	return nil
}

func (e *endpoint) addAudio() (err error) {
	opus := webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus}
	if e.track, err = webrtc.NewTrackLocalStaticSample(opus, "audio", "stream"); err == nil {
		_, err = e.peer.AddTrack(e.track)
	}
	return err
}

func (e *endpoint) listen(track *webrtc.TrackRemote) {
	for {
		packet, _, err := track.ReadRTP()
		if err != nil {
			return
		}
		e.lock.Lock()
		e.payloads = append(e.payloads, base64.StdEncoding.EncodeToString(packet.Payload))
		e.lock.Unlock()
	}
}

func (e *endpoint) open(options channelOptions) error {
	channel, err := e.peer.CreateDataChannel(options.Label, &webrtc.DataChannelInit{
		Ordered: options.Ordered, Negotiated: options.Negotiated, ID: options.ID,
	})
	if err == nil {
		e.follow(channel)
	}
	return err
}

func (e *endpoint) follow(channel *webrtc.DataChannel) {
	label := channel.Label()
	e.channels.Store(label, channel)
	channel.OnOpen(func() { say("channel", fields{"label": label, "id": channel.ID()}) })
	channel.OnClose(func() { say("channel-closed", fields{"label": label}) })
	channel.OnMessage(func(message webrtc.DataChannelMessage) {
		if message.IsString {
			say("message", fields{"label": label, "text": string(message.Data)})
		} else {
			say("message", fields{"label": label, "base64": message.Data})
		}
	})
}

func (e *endpoint) describe(description webrtc.SessionDescription, err error) error {
	if err == nil {
		err = e.peer.SetLocalDescription(description)
	}
	if err == nil {
		say("description", fields{"type": description.Type.String(), "sdp": description.SDP})
	}
	return err
}

func (e *endpoint) channel(label string) (*webrtc.DataChannel, error) {
	if channel, ok := e.channels.Load(label); ok {
		return channel.(*webrtc.DataChannel), nil
	}
	return nil, fmt.Errorf("no channel %q", label)
}

func (e *endpoint) play(packets [][]byte) {
	start := time.Now()
	for index := 0; ; index++ {
		time.Sleep(time.Until(start.Add(time.Duration(index) * 20 * time.Millisecond)))
		sample := media.Sample{Data: packets[index%len(packets)], Duration: 20 * time.Millisecond}
		if e.track.WriteSample(sample) != nil {
			return
		}
	}
}

// save answers an offer with a peer of its own, and writes what comes as pion's example of that name does.
func (e *endpoint) save(c command) error {
	peer, err := newPeer(true)
	if err != nil {
		return err
	}
	e.saving = append(e.saving, peer)
	peer.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		if writer, err := newWriter(track, c.Path); err == nil {
			go e.write(track, writer)
		} else {
			say("error", fields{"command": c.Command, "message": err.Error()})
		}
	})
	if err = peer.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: c.SDP}); err != nil {
		return err
	}
	gathered := webrtc.GatheringCompletePromise(peer)
	answer, err := peer.CreateAnswer(nil)
	if err == nil {
		err = peer.SetLocalDescription(answer)
	}
	if err == nil {
		<-gathered
		say("description", fields{"type": "answer", "sdp": peer.LocalDescription().SDP})
	}
	return err
}

func newWriter(track *webrtc.TrackRemote, path string) (media.Writer, error) {
	if track.Kind() == webrtc.RTPCodecTypeAudio {
		return oggwriter.New(path+".ogg", 48000, 2)
	}
	return ivfwriter.New(path + ".ivf")
}

func (e *endpoint) write(track *webrtc.TrackRemote, writer media.Writer) {
	defer func() { _ = writer.Close() }()
	var next uint16
	for count := 0; ; count++ {
		packet, _, err := track.ReadRTP()
		if err != nil || writer.WriteRTP(packet) != nil {
			return
		}
		if step := packet.SequenceNumber - next; count > 0 && step < 0x8000 {
			e.missed.Add(int64(step))
		}
		next = packet.SequenceNumber + 1
		e.saved.Add(1)
	}
}

func (e *endpoint) carryOut(c command) error {
	switch c.Command {
	case "start":
		return e.start(c)
	case "add-audio":
		return e.addAudio()
	case "offer":
		return e.describe(e.peer.CreateOffer(&webrtc.OfferOptions{ICERestart: c.ICERestart}))
	case "description":
		description := webrtc.SessionDescription{Type: webrtc.NewSDPType(c.Type), SDP: c.SDP}
		if err := e.peer.SetRemoteDescription(description); err != nil || c.Type != "offer" {
			return err
		}
		return e.describe(e.peer.CreateAnswer(nil))
	case "candidate":
		return e.peer.AddICECandidate(webrtc.ICECandidateInit{Candidate: c.Candidate, SDPMid: c.Mid})
	case "open":
		return e.open(c.channelOptions)
	case "send", "close-channel":
		channel, err := e.channel(c.Label)
		switch {
		case err != nil:
			return err
		case c.Command == "close-channel":
			return channel.Close()
		case c.Text != nil:
			return channel.SendText(*c.Text)
		}
		return channel.Send(c.Base64)
	case "play":
		go e.play(c.Packets)
	case "heard":
		e.lock.Lock()
		defer e.lock.Unlock()
		say("heard", fields{"packets": len(e.payloads), "payloads": e.payloads})
	case "save":
		return e.save(c)
	case "saved":
		say("saved", fields{"packets": e.saved.Load(), "missed": e.missed.Load()})
	case "stop-saving":
		for _, peer := range e.saving {
			_ = peer.Close()
		}
		say("closed", nil)
	case "close":
		err := e.peer.Close()
		say("closed", nil)
		return err
	default:
		return fmt.Errorf("no such command")
	}
	return nil
}

func main() {
	var e endpoint
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c command
		err := json.Unmarshal(lines.Bytes(), &c)
		if err == nil {
			err = e.carryOut(c)
		}
		if err != nil {
			say("error", fields{"command": c.Command, "message": err.Error()})
		}
	}
}
