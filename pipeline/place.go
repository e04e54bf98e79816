package pipeline

import "strconv"

// Places knows networks by what is shipped.
type Places struct{ cdn [2]networks }

// NewPlaces returns the networks that this version of weir knows.
func NewPlaces() *Places { return &Places{cdnNetworks()} }

// Network says what kind of network a request came from, in the words of the
// alert schema: crawler, cdn, hosting, cgnat, corporate; "" unknown. It follows
// from the request and this version of weir alone.
func (p *Places) Network(r *Request) string {
	switch {
	case r.Address.IsZero():
		return ""
	case r.Flags&FlagCrawler != 0:
		return "crawler"
	case hostingASN(r.ASN):
		return "hosting"
	}
	ip := r.Address.Addr()
	switch {
	case ip.Is4() && ip.As4()[0] == 100 && ip.As4()[1]&0xc0 == 64: // RFC 6598
		return "cgnat"
	case ip.IsPrivate() || ip.IsLoopback():
		return "corporate"
	}
	for _, n := range p.cdn {
		if n.contains(r.Address) {
			return "cdn"
		}
	}
	return ""
}

// ASNText is the autonomous system as people write it, "" when unknown.
func ASNText(n uint32) string {
	if n == 0 {
		return ""
	}
	return "AS" + strconv.FormatUint(uint64(n), 10)
}

// hostingASN reports autonomous systems whose customers are servers: large
// clouds and hosters, by their entries in the registries.
func hostingASN(n uint32) bool {
	switch n {
	case 14618, 16509, // Amazon
		396982, // Google Cloud
		8075,   // Microsoft
		31898,  // Oracle
		14061,  // DigitalOcean
		63949,  // Linode
		20473,  // Vultr
		16276,  // OVH
		24940,  // Hetzner
		12876,  // Scaleway
		51167,  // Contabo
		60781,  // Leaseweb
		45102,  // Alibaba Cloud
		132203, // Tencent Cloud
		136907, // Huawei Cloud
		9009,   // M247
		36351,  // IBM Cloud
		54825,  // Equinix Metal
		197540, // netcup
		8560,   // IONOS
		47583,  // Hostinger
		62240,  // Clouvider
		36352,  // ColoCrossing
		53667:  // FranTech
		return true
	}
	return false
}
