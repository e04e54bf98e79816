package pipeline

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"github.com/zeebo/xxh3"
)

// Request is one HTTP request and its response, as one source saw it.
//
// Strings may point into the memory of the Block that holds the request and
// are valid as long as the block is; whoever keeps one clones it. Secrets never
// get here: Account, Key, Session and LoginUser are tokens (see Identity).
type Request struct {
	// The first 128 bytes are what detection reads of every request, whichever
	// goroutine parsed it: two cache lines.
	Time      Time    // the source's own stamp
	Effective Time    // set by Merge: never goes back within a source
	Owner     uint64  // hash of the principal, see Principal
	PathKey   uint64  // hash of host and path, see Seal
	AgentKey  uint64  // hash of the agent, 0 without one, see Seal
	Address   Address // of the client, after trusted proxies
	Status    uint16  // 0 unknown
	Flags     RequestFlags
	Kind      PrincipalKind
	Verb      Verb // Method as a number, see Seal

	Forwarded Address // what an untrusted forwarding header claims (rightmost); zero if none
	Query     string  // without '?'
	Referer   string
	Bytes     int64 // of the response body as sent; -1 unknown
	Line      int64 // 1-based line (or record) in its source, for display only

	Duration  int64  // microseconds; -1 unknown
	Slot      uint64 // hash of the parameter in which Payloads was seen
	ASN       uint32 // of Address; 0 unknown
	Payloads  Payloads
	Country   Country
	Method    string
	Host      string // lower case, without port; empty when the log does not carry it
	Path      string // as received, without query; percent-encoding kept
	Agent     string
	Account   string // token of the authenticated account or JWT subject
	Key       string // token of the API key
	Session   string // token of the session
	LoginUser string // token of the account a login request tried
	JA3, JA4  string
	RequestID string
	// Operation is what the request does where its path does not say it: the
	// GraphQL operation, the JSON-RPC method. It is part of the endpoint. Behind
	// ObjectMark is the id of the object that the body asks for, if it is known.
	Operation string
}

// Country is a two-letter ISO 3166 code; zero if unknown.
type Country [2]byte

// String is the code, "" when unknown.
func (c Country) String() string {
	if c == (Country{}) {
		return ""
	}
	return string(c[:])
}

// Payloads is a set of attack shapes seen in a request's text.
type Payloads uint32

// Verb is a request method as a number: detection compares it without touching
// the request's text.
type Verb uint8

// The verbs that detection tells apart.
const (
	VerbOther Verb = iota
	VerbGet
	VerbHead
	VerbPost
	VerbPut
	VerbDelete
	VerbPatch
	VerbOptions
)

func verbOf(method string) Verb {
	switch method {
	case "GET":
		return VerbGet
	case "HEAD":
		return VerbHead
	case "POST":
		return VerbPost
	case "PUT":
		return VerbPut
	case "DELETE":
		return VerbDelete
	case "PATCH":
		return VerbPatch
	case "OPTIONS":
		return VerbOptions
	}
	return VerbOther
}

// Seal sets what follows from the request's text, while that is at hand:
// PathKey, AgentKey and Verb. Whoever makes a request seals it when its strings
// are in place.
func (r *Request) Seal() {
	r.PathKey = Hash64(r.Path)
	if r.Host != "" {
		r.PathKey = Mix64(r.PathKey, Hash64(r.Host))
	}
	if r.Operation != "" {
		r.PathKey = Mix64(r.PathKey, Hash64(r.Operation))
	}
	if r.AgentKey == 0 && r.Agent != "" {
		r.AgentKey = Hash64(r.Agent)
	}
	r.Verb = verbOf(r.Method)
}

// RequestFlags are facts about a request that collect decided.
type RequestFlags uint16

const (
	// FlagLogin marks a login attempt: it belongs to the address.
	FlagLogin RequestFlags = 1 << iota
	// FlagRefused marks a request whose credential the server refused.
	FlagRefused
	// FlagSkew marks a time that was ahead of its neighbours or of arrival.
	FlagSkew
	// FlagLate marks a request released after its place in the order.
	FlagLate
	// FlagBackfill marks history: detected, stored, not sent to sinks.
	FlagBackfill
	// FlagKnown marks a client that the configuration names.
	FlagKnown
	// FlagBlocked marks a request that a WAF or a gateway stopped before the
	// application saw it.
	FlagBlocked
	// FlagAppFailed marks an answer that failed inside a 2xx: GraphQL errors, a
	// gRPC status, a JSON-RPC error.
	FlagAppFailed
	// FlagAppStatus says that the source tells whether an answer failed so.
	FlagAppStatus
	// FlagCrawler marks an address inside the published ranges of the crawler
	// that the agent names.
	FlagCrawler
	// FlagListed marks an address on a threat-intelligence list.
	FlagListed
	// FlagAsks marks a request that asks about an account without logging in (a
	// password reset, a registration, a look-up): it belongs to the address.
	FlagAsks
	// FlagPretends marks an address outside the published ranges of the crawler
	// that the agent names.
	FlagPretends
)

// Block is a run of requests of one source in the order they were read.
type Block struct {
	Source   string // as users know it: a path, "-", a listener
	SourceID uint64 // stable across restarts
	Requests []Request
	// Arena is the memory the requests' strings point into, when the reader
	// could avoid copying them. It is never written once the block is passed on.
	Arena []byte
	// Cause is the range of the source this block was read from: bytes for
	// files, records for others. Blocks of one source join without a gap.
	Cause CauseRange
	// Cursor is what the source needs to resume behind this block; opaque to
	// everyone else and committed together with it.
	Cursor []byte
	// Watermark promises that later blocks of this source carry no request
	// older than it, beyond the source's lateness. NoTime makes no promise.
	Watermark Time
	Rejects   Rejects
	// Receipt is stored in the commit of this block; nil for most.
	Receipt *Receipt
	// More says that the next block of this source is to be committed together
	// with this one.
	More bool

	held int // requests that a Merge has not given out yet
}

// Receipt is what a sender is told when it sends lines again that are kept.
type Receipt struct {
	Key    [32]byte // names the delivery
	Lines  [32]byte // SHA-256 of what was sent
	Answer []byte
	Time   Time // wall clock
}

// CauseRange is the half-open range [From, To) of a producer's own positions.
type CauseRange struct{ From, To int64 }

// Rejects counts input that could not become a request.
type Rejects struct {
	Lines  int64            // lines read, good and bad
	Reason map[string]int64 // closed set of reasons → lines; nil when none
	Sample []RejectSample   // at most a few per block
}

// RejectSample is one rejected line, cut and safe to print.
type RejectSample struct {
	Reason string
	Line   int64
	Text   string
}

// PrincipalKind says what names a principal.
type PrincipalKind uint8

// The kinds, in the words of the alert schema.
const (
	PrincipalNone PrincipalKind = iota
	PrincipalIP
	PrincipalSession
	PrincipalKey
	PrincipalAccount
	PrincipalSubject
	PrincipalCohort
	PrincipalEndpoint
)

var principalKinds = [...]string{"", "ip", "session", "key", "account", "subject", "cohort", "endpoint"}

func (k PrincipalKind) String() string {
	if int(k) < len(principalKinds) {
		return principalKinds[k]
	}
	return "unknown"
}

// MarshalText writes the kind's word.
func (k PrincipalKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads a kind's word; an unknown one becomes PrincipalNone.
func (k *PrincipalKind) UnmarshalText(b []byte) error {
	*k = PrincipalNone
	for i, s := range principalKinds {
		if s == string(b) {
			*k = PrincipalKind(i)
		}
	}
	return nil
}

// Principal is who a request belongs to.
type Principal struct {
	Kind  PrincipalKind `json:"kind"`
	Value string        `json:"value"`
}

// Hash is the identity of p wherever a number serves better than a name:
// sharding, tables, meeting keys. It is stable across machines and versions.
func (p Principal) Hash() uint64 { return HashPrincipal(p.Kind, p.Value) }

// hashSeed keeps weir's hashes apart from other users of the same function.
const hashSeed = 0x77656972_2f310000

// Hash64 is the one hash of strings in weir (xxh3, fixed seed).
func Hash64(s string) uint64 { return xxh3.HashStringSeed(s, hashSeed) }

// Mix64 joins two hashes into one; the order of the arguments matters. For one
// b, different a give different results: it is a bijection (the finalizer of
// SplitMix64, Steele et al. 2014), so that no two addresses share a hash.
func Mix64(a, b uint64) uint64 {
	x := a + b*0x9e3779b97f4a7c15 + 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// HashPrincipal is Principal.Hash without building the struct. For
// PrincipalIP use Address.Owner, which needs no text.
func HashPrincipal(k PrincipalKind, value string) uint64 {
	if k == PrincipalIP {
		if a, ok := ParseAddress(value); ok {
			return a.Owner()
		}
	}
	return Mix64(Hash64(value), uint64(k))
}

// Principal returns the owner that collect decided, with its text.
func (r *Request) Principal() Principal {
	switch r.Kind {
	case PrincipalAccount, PrincipalSubject:
		return Principal{r.Kind, r.Account}
	case PrincipalKey:
		return Principal{r.Kind, r.Key}
	case PrincipalSession:
		return Principal{r.Kind, r.Session}
	case PrincipalIP:
		return Principal{PrincipalIP, r.Address.PrincipalValue()}
	}
	return Principal{}
}

// Address is an IP address in 16 bytes, IPv4 mapped; the zero value is none.
type Address [16]byte

// ParseAddress reads an IPv4 or IPv6 address; brackets, a port or a zone are
// not accepted here.
func ParseAddress(s string) (Address, bool) {
	if ip, ok := parseIPv4(s); ok {
		return address4(ip), true
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		// A /64 as PrincipalValue writes it is accepted back.
		if p, perr := netip.ParsePrefix(s); perr == nil && p.Bits() == 64 {
			return Address(p.Masked().Addr().As16()), true
		}
		return Address{}, false
	}
	return Address(a.As16()), true
}

func parseIPv4(s string) (ip uint32, ok bool) {
	i := 0
	for octet := 0; ; octet++ {
		if i == len(s) {
			return 0, false
		}
		v := uint32(s[i]) - '0'
		if v > 9 {
			return 0, false
		}
		i++
		for n := 1; i < len(s); n++ {
			d := uint32(s[i]) - '0'
			if d > 9 {
				break
			}
			if n == 3 || v == 0 {
				return 0, false // four digits, or a leading zero
			}
			v = v*10 + d
			i++
		}
		if v > 255 {
			return 0, false
		}
		ip = ip<<8 | v
		if octet == 3 {
			break
		}
		if i == len(s) || s[i] != '.' {
			return 0, false
		}
		i++
	}
	if i != len(s) {
		return 0, false
	}
	return ip, true
}

// put4 makes a the IPv4 address ip. Two writes of eight bytes can be read back at
// once; what is put together from smaller ones has to be waited for.
func (a *Address) put4(ip uint32) {
	binary.BigEndian.PutUint64(a[:8], 0)
	binary.BigEndian.PutUint64(a[8:], 0xffff<<32|uint64(ip))
}

func address4(ip uint32) (a Address) {
	a.put4(ip)
	return a
}

// owner4 is Address.Owner of an IPv4 address.
func owner4(ip uint32) uint64 { return Mix64(uint64(ip), 4) }

// AddressOwner is Address.Owner of the address that s spells.
func AddressOwner(s []byte) (owner uint64, ok bool) {
	// The text is not kept, so it need not be copied.
	text := unsafe.String(unsafe.SliceData(s), len(s))
	if ip, ok := parseIPv4(text); ok {
		return owner4(ip), true
	}
	a, ok := ParseAddress(text)
	return a.Owner(), ok
}

// IsZero reports whether there is no address.
func (a Address) IsZero() bool { return a == Address{} }

// Is4 reports whether a is IPv4.
func (a Address) Is4() bool {
	return binary.BigEndian.Uint64(a[:8]) == 0 && binary.BigEndian.Uint64(a[8:])>>32 == 0xffff
}

// Addr returns a as a netip.Addr, IPv4 unmapped; invalid for the zero value.
func (a Address) Addr() netip.Addr {
	if a.IsZero() {
		return netip.Addr{}
	}
	return netip.AddrFrom16(a).Unmap()
}

// String is the address as people write it; "-" for none.
func (a Address) String() string {
	if a.IsZero() {
		return "-"
	}
	return a.Addr().String()
}

// Owner is the hash of the principal that the address is: an IPv4 address, or
// the /64 of an IPv6 one (one host moves freely inside its /64).
func (a Address) Owner() uint64 {
	if a.Is4() {
		return owner4(uint32(binary.BigEndian.Uint64(a[8:])))
	}
	return Mix64(binary.BigEndian.Uint64(a[:8]), 6)
}

// PrincipalValue is the text of the principal that the address is: the IPv4
// address, or the IPv6 /64 as "2001:db8:1:2::/64".
func (a Address) PrincipalValue() string {
	if a.IsZero() {
		return "-"
	}
	if a.Is4() {
		return a.Addr().String()
	}
	return netip.PrefixFrom(netip.AddrFrom16(a), 64).Masked().String()
}

// Shards is the number of virtual shards; partition counts and workers divide
// them, and no result depends on how.
const Shards = 4096

// Shard is the virtual shard of a principal or meeting key hash.
func Shard(hash uint64) uint16 { return uint16(hash>>52) & (Shards - 1) }
