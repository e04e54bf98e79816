package simulate

import (
	"math/rand/v2"
	"net/netip"
	"strconv"
)

type netKind uint8

const (
	netHome netKind = iota
	netMobile
	netOffice
	netHosting
	netRelay
	netKinds
)

// Each kind of network has so many operators with a /12 each, out of 240.0.0.0/4
// from block number firstBlock on. Their ASNs are private ones.
const networksOfAKind = 24

func countries() [12]string {
	return [12]string{"DE", "DE", "DE", "AT", "CH", "FR", "NL", "PL", "GB", "IT", "US", "ES"}
}

func hostingCountries() [12]string {
	return [12]string{"US", "DE", "NL", "SG", "FI", "FR", "RU", "VN", "BR", "IN", "US", "HK"}
}

// place returns the n-th address of a kind; different n give different
// addresses. Popular operators have more of them.
func (w *world) place(kind netKind, n uint64) identity {
	h := hash2(w.seed^0xadd2e55, n<<3|uint64(kind))
	u := unit(h)
	operator := int(u * u * networksOfAKind)
	// The number of the operator is a function of n, and n fits its /12.
	host := permute(n, 1<<20, uint64(kind)*97+uint64(operator))
	v := uint32(240)<<24 | uint32(int(kind)*networksOfAKind+operator)<<20 | uint32(host)
	id := identity{ip: dotted(v), asn: 4_200_000_000 + uint32(kind)*100 + uint32(operator), country: countries()[h%12]}
	if kind == netHosting {
		id.country = hostingCountries()[h%12]
	}
	return id
}

// place6 returns an IPv6 address of the n-th home; low is the device's part.
func (w *world) place6(n, low uint64) identity {
	h := hash2(w.seed^0xadd2e56, n)
	b := [16]byte{0x20, 0x01, 0x0d, 0xb8, byte(n >> 16), byte(n >> 8), byte(n)}
	for i := range 8 {
		b[15-i] = byte(low >> (8 * i))
	}
	return identity{
		ip: netip.AddrFrom16(b).String(), asn: 4_200_000_000 + uint32(h%networksOfAKind), country: countries()[h>>8%12],
	}
}

func dotted(v uint32) string {
	b := make([]byte, 0, 15)
	for i := 3; i >= 0; i-- {
		b = strconv.AppendUint(b, uint64(byte(v>>(8*i))), 10)
		if i > 0 {
			b = append(b, '.')
		}
	}
	return string(b)
}

// stack is a user agent with the TLS fingerprint of its family.
type stack struct {
	agent, ja4 string
	weight     int
}

const (
	ja4Chrome  = "t13d1516h2_8daaf6152771_d8a2da3f94cd"
	ja4Safari  = "t13d2014h2_a09f3c656075_14788d8d241b"
	ja4Firefox = "t13d1715h2_5b57614c22b0_5c2c66f702b0"
	ja4OkHTTP  = "t13d1311h2_e8f1e7e78f70_d339722ba4af"
	ja4Python  = "t13d1812h1_85036bcba153_b26ce05bbdd6"
	ja4Go      = "t13d1311h2_f57a46bbacb6_ab7e3b40a677"
	ja4Curl    = "t13d3112h2_e8f1e7e78f70_b26ce05bbdd6"
	ja4Java    = "t13d1712h1_1d37bd780c83_5d04281c6031"
	ja4Node    = "t13d5911h1_a33745022dd6_1f22a2ca17c4"
)

// browsers are what people use; the table is never written.
var browsers = [...]stack{
	{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/145.0.0.0 Safari/537.36", ja4Chrome, 24},
	{"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/145.0.0.0 Mobile Safari/537.36", ja4Chrome, 22},
	{"Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.2 Mobile/15E148 Safari/604.1", ja4Safari, 18},
	{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/145.0.0.0 Safari/537.36 Edg/145.0.0.0", ja4Chrome, 8},
	{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.2 Safari/605.1.15", ja4Safari, 7},
	{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/145.0.0.0 Safari/537.36", ja4Chrome, 6},
	{"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:147.0) Gecko/20100101 Firefox/147.0", ja4Firefox, 5},
	{"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", ja4Firefox, 2},
	{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/144.0.0.0 Safari/537.36", ja4Chrome, 4},
	{"Mozilla/5.0 (iPad; CPU OS 17_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.6 Mobile/15E148 Safari/604.1", ja4Safari, 3},
	{"Mozilla/5.0 (Linux; Android 14; SM-S921B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/29.0 Chrome/136.0.0.0 Mobile Safari/537.36", ja4Chrome, 4},
	{"Mozilla/5.0 (Windows NT 6.1; Win64; x64; rv:115.0) Gecko/20100101 Firefox/115.0", ja4Firefox, 1},
}

var tools = [...]stack{
	{"python-requests/2.32.5", ja4Python, 5},
	{"Go-http-client/2.0", ja4Go, 3},
	{"curl/8.14.1", ja4Curl, 2},
	{"okhttp/4.12.0", ja4OkHTTP, 2},
	{"axios/1.12.2", ja4Node, 2},
}

func drawStack(r *rand.Rand, from []stack) stack {
	sum := 0
	for _, s := range from {
		sum += s.weight
	}
	k := r.IntN(sum)
	for _, s := range from {
		if k -= s.weight; k < 0 {
			return s
		}
	}
	return from[0]
}

func (id *identity) wear(s stack) { id.agent, id.ja4 = s.agent, s.ja4 }
