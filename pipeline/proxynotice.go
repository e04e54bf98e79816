package pipeline

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// AppendState appends everything w remembers, for a checkpoint.
func (w *ProxyWatch) AppendState(dst []byte) ([]byte, error) {
	out, err := binary.Append(dst, binary.LittleEndian, &w.s)
	if err != nil {
		return dst, fmt.Errorf("write proxy watch: %w", err)
	}
	return out, nil
}

// RestoreState makes w what it was at AppendState. On an error w is unchanged.
func (w *ProxyWatch) RestoreState(b []byte) error {
	var s proxyState
	if len(b) != binary.Size(&s) {
		return fmt.Errorf("read proxy watch: %d bytes, want %d", len(b), binary.Size(&s))
	}
	if _, err := binary.Decode(b, binary.LittleEndian, &s); err != nil {
		return fmt.Errorf("read proxy watch: %w", err)
	}
	used := uint32(0)
	for _, p := range s.OwnerOf {
		if int(p) > len(s.CDN) {
			return errors.New("read proxy watch: unknown provider")
		}
		if p > 0 {
			used++
		}
	}
	if used != s.OwnerCount || used > cdnOwners*3/4 {
		return errors.New("read proxy watch: table of edges does not add up")
	}
	for i := range s.Slots {
		if s.Slots[i].Level > 40 {
			return errors.New("read proxy watch: bad sampling level")
		}
	}
	w.s = s
	return nil
}

// missingHeader is what to do where a log shows no client behind a proxy.
const missingHeader = "nginx: add \"$http_x_forwarded_for\" at the end of log_format; " +
	"Apache: add \\\"%{X-Forwarded-For}i\\\" at the end of LogFormat."

// Notice says in words which addresses look like proxies and gives the line of
// configuration that declares them; both are empty when there are none. The
// text ends with the log setting to add where the log shows no client behind
// them.
func (w *ProxyWatch) Notice() (text, configLine string) {
	type found struct {
		net  string
		n    uint32
		base proxyBasis

		trusted bool
	}
	var list []found
	for i := range w.s.Slots {
		t := &w.s.Slots[i]
		if t.Crowd.Basis == proxyNo {
			continue
		}
		if p := w.provider(t.Address); p > 0 && w.s.CDN[p-1].Basis != proxyNo {
			continue // its provider is named below
		}
		a := t.Address.Addr()
		list = append(list, found{fmt.Sprintf("%s/%d", a, a.BitLen()), t.Crowd.Requests, t.Crowd.Basis, w.trusted.contains(t.Address)})
	}
	slices.SortFunc(list, func(a, b found) int {
		if a.n != b.n {
			return int(b.n) - int(a.n)
		}
		return strings.Compare(a.net, b.net)
	})
	var names, nets []string
	header := false
	for _, f := range list {
		names = append(names, fmt.Sprintf("%s (%d of the last %d requests)", strings.TrimSuffix(strings.TrimSuffix(f.net, "/32"), "/128"), f.n, w.s.Total))
		nets = append(nets, f.net)
		header = header || f.base == proxyHeader
	}
	for i, p := range cdnProviders() {
		if c := &w.s.CDN[i]; c.Basis != proxyNo {
			names = append(names, fmt.Sprintf("%s (%d of the last %d requests)", p.name, c.Requests, w.s.Total))
			nets = append(nets, p.networks...)
			header = header || w.s.Claimed*50 >= w.s.Total
		}
	}
	if len(names) == 0 {
		return "", ""
	}
	known := header || slices.ContainsFunc(list, func(f found) bool { return !f.trusted })
	for i := range w.s.CDN {
		known = known || w.s.CDN[i].Basis != proxyNo
	}
	if !known {
		text = "Many clients arrive through " + strings.Join(names, " and ") + ", which the configuration names as a trusted proxy, " +
			"but the log does not show the clients behind it: they are taken for one client, and what is found against it does not page."
		return text, missingHeader
	}
	configLine = "identity: {trusted_proxies: [" + strings.Join(nets, ", ") + "]}"
	text = "Many clients arrive through " + strings.Join(names, " and ") + ", which the configuration does not name as a trusted proxy: " +
		"they are taken for one client, and what is found against it does not page. Check that it is yours, then add it to trusted_proxies."
	if !header {
		text += " The log does not show the clients behind it. " + missingHeader
	}
	return text, configLine
}
