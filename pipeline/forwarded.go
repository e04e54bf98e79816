package pipeline

import (
	"net/netip"
	"strings"
)

// Who sent a request through proxies. A forwarding header is a list that every
// hop appends to on the right, so only what trusted hops wrote can be believed:
// the list is read from the right, and the first address that is no trusted
// proxy is the client. What stands left of it is the client's own claim.

// maxHops bounds how many entries of a forwarding header are read.
const maxHops = 32

// maxAddressText is the longest text that can be an address with zone and port.
const maxAddressText = 96

// parseHost reads an address as logs and headers write it: with or without a
// port, brackets, quotes or a zone (dropped). The unspecified address is none.
func parseHost(s string) (Address, bool) {
	if ip, ok := parseIPv4(s); ok {
		return address4(ip), ip != 0
	}
	s = strings.Trim(s, " \t\"")
	if s == "" || len(s) > maxAddressText {
		return Address{}, false
	}
	if s[0] == '[' {
		end := strings.IndexByte(s, ']')
		if end < 0 || !portText(s[end+1:]) {
			return Address{}, false
		}
		if s = s[1:end]; strings.IndexByte(s, ':') < 0 {
			return Address{}, false
		}
	} else if i := strings.IndexByte(s, ':'); i < 0 || i == strings.LastIndexByte(s, ':') {
		host := s
		if i >= 0 {
			if host = s[:i]; !portText(s[i:]) {
				return Address{}, false
			}
		}
		ip, ok := parseIPv4(host)
		if !ok {
			return Address{}, false
		}
		return address4(ip), ip != 0
	}
	if i := strings.IndexByte(s, '%'); i >= 0 {
		if i == len(s)-1 {
			return Address{}, false
		}
		s = s[:i]
	}
	n, err := netip.ParseAddr(s)
	if err != nil || !n.Is6() {
		return Address{}, false
	}
	a := Address(n.As16())
	return a, !a.IsZero() && !unspecified4(a)
}

func unspecified4(a Address) bool { return a.Is4() && a[12]|a[13]|a[14]|a[15] == 0 }

// portText reports whether s is empty or ":" and up to five digits. An
// obfuscated port (RFC 7239: ":_x") counts too.
func portText(s string) bool {
	if s == "" {
		return true
	}
	if s[0] != ':' || len(s) == 1 {
		return false
	}
	if s[1] == '_' {
		return len(s) <= 34
	}
	if len(s) > 6 {
		return false
	}
	for i := 1; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// hopReader reads a forwarding header from the right, one entry a call.
type hopReader struct {
	rest string
	std  bool // RFC 7239
	read int
}

// next returns the next entry to the left that is not empty. A bad entry or the
// end of what is read returns false; more says whether there was an entry at
// all.
func (h *hopReader) next() (a Address, ok, more bool) {
	for h.rest != "" && h.read < maxHops {
		h.read++
		entry := h.rest
		// A comma inside quotes is no part of any valid entry, and an open quote
		// further left is the client's: commas split, quotes or not.
		if i := strings.LastIndexByte(h.rest, ','); i >= 0 {
			entry, h.rest = h.rest[i+1:], h.rest[:i]
		} else {
			h.rest = ""
		}
		if entry = strings.Trim(entry, " \t"); entry == "" {
			continue
		}
		if h.std {
			if entry, ok = forwardedFor(entry); !ok {
				return Address{}, false, true
			}
		}
		a, ok = parseHost(entry)
		return a, ok, true
	}
	return Address{}, false, false
}

// forwardedFor returns the node of the for parameter of one Forwarded element.
func forwardedFor(element string) (string, bool) {
	for element != "" {
		var pair string
		pair, element, _ = strings.Cut(element, ";")
		name, value, ok := strings.Cut(pair, "=")
		if !ok || !strings.EqualFold(strings.Trim(name, " \t"), "for") {
			continue
		}
		value = strings.Trim(value, " \t")
		if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
			value = value[1 : n-1]
		}
		// "unknown" and obfuscated "_x" nodes name nobody; the caller's parser
		// refuses them as it does anything else that is no address.
		return value, value != ""
	}
	return "", false
}

// hops is what a walk found.
type hops struct {
	client Address // zero: none
	claim  Address // what the client itself claims in the header; zero: nothing
	bad    bool    // a trusted hop wrote something that is no address
}

// walk finds the client of a request that came from peer, which is believed if
// trustedPeer (a peer without an address can be: a local socket). A header that
// turns bad on the way claims nothing.
func (id *Identity) walk(peer Address, trustedPeer bool, h hopReader) (w hops) {
	w.client = peer
	for trusted := trustedPeer; trusted; {
		a, ok, more := h.next()
		if !ok {
			w.bad = more
			return w
		}
		w.client = a
		trusted = id.trusted.contains(a)
	}
	// The rightmost address that can be read, over at most maxHops entries.
	for {
		a, ok, more := h.next()
		if !more {
			return w
		}
		if ok {
			if a != w.client { // equal: the server has applied the header already
				w.claim = a
			}
			return w
		}
	}
}
