package pipeline

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"
)

// NeverBlock knows the addresses that no advice to block may name, because
// somebody else than the attacker would be hit. It is immutable and safe to
// share.
type NeverBlock struct{ kinds []neverKind }

type neverKind struct {
	why  string
	nets networks
}

// specialNetworks are nobody's alone: private, shared, local, reserved (the
// IANA special-purpose registries; the networks for documentation are not among
// them, they route nowhere).
func specialNetworks() []string {
	return []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "224.0.0.0/3",
		"::/127", "64:ff9b::/96", "fc00::/7", "fe80::/10", "ff00::/8",
	}
}

// NewNeverBlock knows the special networks, the CDNs and crawlers that weir
// ships or x was loaded with, the configured proxies, own networks and known
// clients, and what list names besides. A nil x knows the shipped crawlers.
func NewNeverBlock(c IdentityConfig, x *Context, list []string) (*NeverBlock, error) {
	n := &NeverBlock{}
	var errs []error
	add := func(why string, texts []string) {
		var prefixes []netip.Prefix
		for _, text := range texts {
			if strings.TrimSpace(text) == unixPeer {
				continue
			}
			p, err := parseNetwork(text)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			prefixes = append(prefixes, p)
		}
		n.kinds = append(n.kinds, neverKind{why, newNetworks(prefixes)})
	}
	add("it is in never_block", list)
	add("it is a trusted proxy", c.TrustedProxies)
	add("it is in internal_networks", c.InternalNetworks)
	var clients []string
	for _, k := range c.KnownClients {
		if k.IP != "" {
			clients = append(clients, k.IP)
		}
	}
	add("it is a known client", clients)
	add("it is private, shared or reserved", specialNetworks())
	for _, p := range cdnProviders() {
		add("it belongs to the CDN "+p.name, p.networks)
	}
	crawlers := shippedCrawlers()
	if x != nil && x.crawlers != nil {
		crawlers = x.crawlers
	}
	for _, w := range crawlers {
		n.kinds = append(n.kinds, neverKind{"it belongs to the crawler " + w.name, slices.Clone(w.ranges)})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("never_block: %w", err)
	}
	return n, nil
}

// Why says why p may not be blocked, "" when it may: any address in common is
// enough.
func (n *NeverBlock) Why(p netip.Prefix) string {
	if !p.IsValid() {
		return "it is no address"
	}
	r := rangeOf(p)
	for _, k := range n.kinds {
		if k.nets.meets(r) {
			return k.why
		}
	}
	return ""
}

// meets tells whether n and r have an address in common.
func (n networks) meets(r addressRange) bool {
	i := sort.Search(len(n), func(i int) bool { return bytes.Compare(n[i].hi[:], r.lo[:]) >= 0 })
	return i < len(n) && bytes.Compare(n[i].lo[:], r.hi[:]) <= 0
}
