package alerts

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// guard keeps sinks from being led into our own networks by whoever controls a
// name: a name is resolved once, every address is looked at, and the connection
// goes to an address that was looked at. An address that the configuration itself
// spells out, and localhost, are meant; the network of cloud metadata is not, nor
// what is no unicast.
type guard struct {
	allow   []netip.Prefix
	resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	connect func(ctx context.Context, network, address string) (net.Conn, error)
}

func newGuard(o SinkOptions) *guard {
	d := &net.Dialer{Timeout: 10 * time.Second}
	g := &guard{allow: o.Networks, connect: d.DialContext}
	g.resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
		return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	}
	if o.dial != nil {
		g.connect = o.dial
	}
	if o.resolve != nil {
		g.resolve = o.resolve
	}
	return g
}

// dial connects to a host and port.
func (g *guard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if why := special(ip); !g.allowed(ip) && (why == linkLocal || why == noUnicast) {
			return nil, g.refuse(host, ip, why)
		}
		return g.connect(ctx, network, address)
	}
	ips, err := g.resolve(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", host, err)
	}
	named := strings.EqualFold(host, "localhost")
	err = fmt.Errorf("resolve %s: it has no address", host)
	for _, ip := range ips {
		if why := special(ip); why != "" && !g.allowed(ip) && (!named || why != ownHost) {
			err = g.refuse(host, ip, why)
			continue
		}
		var c net.Conn
		if c, err = g.connect(ctx, network, net.JoinHostPort(ip.String(), port)); err == nil {
			return c, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

func (g *guard) refuse(host string, ip netip.Addr, why string) error {
	return ownFault{fmt.Errorf("%s is %s, %s; name the network in alerts.allow_networks if it is meant", host, ip, why)}
}

func (g *guard) allowed(ip netip.Addr) bool {
	ip = plainIP(ip)
	for _, p := range g.allow {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// Why an address is special.
const (
	ownHost   = "this host"
	private   = "in a private network"
	linkLocal = "link-local, where clouds keep credentials"
	noUnicast = "no address of a host"
)

// special says why a name must not lead to ip, "" when it may.
func special(ip netip.Addr) string {
	ip = plainIP(ip)
	switch {
	case ip.IsLoopback():
		return ownHost
	case ip.IsLinkLocalUnicast() || ip == netip.AddrFrom4([4]byte{100, 100, 100, 200}) || ip == netip.MustParseAddr("fd00:ec2::254"):
		return linkLocal
	case ip.IsUnspecified() || ip.IsMulticast() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return noUnicast
	}
	for _, p := range []string{"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "240.0.0.0/4", "fc00::/7", "fec0::/10"} {
		if netip.MustParsePrefix(p).Contains(ip) {
			return private
		}
	}
	return ""
}

// plainIP takes an IPv4 address out of the IPv6 forms that stand for it: mapped,
// compatible, NAT64 (RFC 6052), 6to4.
func plainIP(ip netip.Addr) netip.Addr {
	ip = ip.WithZone("").Unmap()
	if ip.Is4() {
		return ip
	}
	b := ip.As16()
	switch {
	case netip.MustParsePrefix("64:ff9b::/96").Contains(ip) || netip.MustParsePrefix("::/96").Contains(ip) && ip != netip.IPv6Loopback() && !ip.IsUnspecified():
		return netip.AddrFrom4([4]byte(b[12:16]))
	case netip.MustParsePrefix("2002::/16").Contains(ip):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return ip
}
