"""The aiohttp signaling server of mediapeer: SDP in, SDP out, calls in between."""
