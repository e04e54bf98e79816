package pipeline

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// networks is a set of addresses as sorted ranges that do not touch.
type networks []addressRange

type addressRange struct{ lo, hi Address }

// parseNetwork reads a CIDR or a single address. Bits behind the mask are an
// error: whoever writes them means one of two different things.
func parseNetwork(s string) (netip.Prefix, error) {
	s = strings.TrimSpace(s)
	if !strings.Contains(s, "/") {
		a, ok := parseHost(s)
		if !ok {
			return netip.Prefix{}, fmt.Errorf("%q is no address or network; write it like 192.0.2.0/24 or 2001:db8::/32", clip(s))
		}
		n := a.Addr()
		return netip.PrefixFrom(n, n.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is no address or network; write it like 192.0.2.0/24 or 2001:db8::/32", clip(s))
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, fmt.Errorf("%q spans more than IPv4; write it as IPv4", clip(s))
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("%q has bits behind its mask; write %s, or %s/%d for one address", clip(s), p.Masked(), p.Addr(), p.Addr().BitLen())
	}
	return p, nil
}

// clip cuts a user's text to what fits an error.
func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "..."
	}
	return s
}

func rangeOf(p netip.Prefix) addressRange {
	lo := Address(p.Masked().Addr().As16())
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	hi := lo
	for i := bits; i < 128; i++ {
		hi[i/8] |= 1 << (7 - i%8)
	}
	return addressRange{lo, hi}
}

func newNetworks(prefixes []netip.Prefix) networks {
	var n networks
	for _, p := range prefixes {
		n = append(n, rangeOf(p))
	}
	slices.SortFunc(n, func(a, b addressRange) int { return bytes.Compare(a.lo[:], b.lo[:]) })
	out := n[:0]
	for _, r := range n {
		if k := len(out) - 1; k >= 0 && bytes.Compare(r.lo[:], out[k].hi[:]) <= 0 {
			if bytes.Compare(r.hi[:], out[k].hi[:]) > 0 {
				out[k].hi = r.hi
			}
			continue
		}
		out = append(out, r)
	}
	return out
}

func (n networks) contains(a Address) bool {
	lo, hi := 0, len(n)
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		if bytes.Compare(n[m].hi[:], a[:]) < 0 {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo < len(n) && bytes.Compare(n[lo].lo[:], a[:]) <= 0
}
