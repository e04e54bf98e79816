package main

import "bytes"

// appendJSON appends a combined line of the generator's own as a JSON object, with
// nginx's names. Nothing in such a line needs an escape.
func appendJSON(buf, line []byte) []byte {
	rest := line
	for _, m := range [...]struct{ member, end string }{
		{`{"remote_addr":"`, ` - - [`},
		{`","time_local":"`, `] "`},
		{`","request_method":"`, ` `},
		{`","request_uri":"`, ` `},
		{`","server_protocol":"`, `" `},
		{`","status":`, ` `},
		{`,"body_bytes_sent":`, ` "`},
		{`,"http_referer":"`, `" "`},
		{`","http_user_agent":"`, "\"\n"},
	} {
		var value []byte
		value, rest, _ = bytes.Cut(rest, []byte(m.end))
		buf = append(append(buf, m.member...), value...)
	}
	return append(buf, "\"}\n"...)
}
