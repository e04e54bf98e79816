package pipeline

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// EndpointRule is one entry of the section endpoints of the configuration.
type EndpointRule struct {
	// Match is "METHOD /path"; the method may be left out or "*". In the path
	// "*" stands for any run inside a segment, "{name}" for a whole segment,
	// and a last "**" for any rest. Letter case does not matter.
	Match   string          `yaml:"match" json:"match"`
	Role    string          `yaml:"role" json:"role"` // login logout reset register lookup other
	Failure EndpointFailure `yaml:"failure" json:"failure"`
	Weight  string          `yaml:"weight" json:"weight"` // low normal high; "" is normal
}

// EndpointFailure says how a failed login looks. Empty means: learned.
type EndpointFailure struct {
	Status []int  `yaml:"status" json:"status"`
	OrSize string `yaml:"or_size" json:"or_size"` // response bytes, "1900-1920" or "1910"
}

// The roles of endpoints.
const (
	RoleLogin    = "login"
	RoleLogout   = "logout"
	RoleReset    = "reset"
	RoleRegister = "register"
	RoleLookup   = "lookup" // says whether an account exists
	RoleOther    = "other"  // none of these, whatever its name looks like
)

const (
	maxEndpointRules = 256
	maxEndpointPath  = 512
)

// LoginRules knows login endpoints: the configured ones, then by the names that
// logins have everywhere. It is immutable and safe to share; the zero value
// holds the names alone.
type LoginRules struct {
	rules []endpointRule
	any   bool // some rule matches methods other than POST and PUT
}

type endpointRule struct {
	method       string // "" any
	segments     []string
	rest         bool
	role, weight string
	status       []uint16
	sizeLo       int64
	sizeHi       int64 // below sizeLo: no size given
}

// LoginEndpoint is what is known of an endpoint.
type LoginEndpoint struct {
	Role       string
	Weight     string // low normal high
	Configured bool
}

// NewLoginRules compiles endpoints. The error joins every problem, each with
// its YAML path.
func NewLoginRules(endpoints []EndpointRule) (*LoginRules, error) {
	var errs []error
	bad := func(i int, path, format string, args ...any) {
		errs = append(errs, fmt.Errorf("endpoints[%d]."+path+": "+format, append([]any{i}, args...)...))
	}
	if len(endpoints) > maxEndpointRules {
		return nil, fmt.Errorf("endpoints: %d entries; at most %d", len(endpoints), maxEndpointRules)
	}
	l := &LoginRules{}
	for i, e := range endpoints {
		r := endpointRule{role: e.Role, weight: e.Weight, sizeLo: 0, sizeHi: -1}
		if err := r.match(e.Match); err != nil {
			bad(i, "match", "%w", err)
		}
		if !slices.Contains([]string{RoleLogin, RoleLogout, RoleReset, RoleRegister, RoleLookup, RoleOther}, e.Role) {
			bad(i, "role", "%q; want login, logout, reset, register, lookup or other", clip(e.Role))
		}
		switch e.Weight {
		case "":
			r.weight = "normal"
		case "low", "normal", "high":
		default:
			bad(i, "weight", "%q; want low, normal or high", clip(e.Weight))
		}
		for j, s := range e.Failure.Status {
			if s < 100 || s > 599 {
				bad(i, fmt.Sprintf("failure.status[%d]", j), "%d is no status", s)
				continue
			}
			r.status = append(r.status, uint16(s))
		}
		if e.Failure.OrSize != "" {
			var err error
			if r.sizeLo, r.sizeHi, err = parseSizes(e.Failure.OrSize); err != nil {
				bad(i, "failure.or_size", "%w", err)
			}
		}
		l.any = l.any || r.method != "POST" && r.method != "PUT"
		l.rules = append(l.rules, r)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return l, nil
}

// match compiles a pattern into r.
func (r *endpointRule) match(s string) error {
	method, path, ok := strings.Cut(strings.TrimSpace(s), " ")
	if !ok {
		method, path = "", method
	}
	path = strings.TrimSpace(path)
	if !strings.HasPrefix(path, "/") || len(path) > maxEndpointPath {
		return fmt.Errorf("%q; want a method and a path, like POST /login", clip(s))
	}
	for i := 0; i < len(method); i++ {
		if c := method[i] | 0x20; method != "*" && (c < 'a' || c > 'z') {
			return fmt.Errorf("%q is no method", clip(method))
		}
	}
	if method != "*" {
		r.method = strings.ToUpper(method)
	}
	if strings.ContainsAny(path, "?# ") {
		return fmt.Errorf("%q: a path has no query and no spaces", clip(path))
	}
	for seg := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if r.rest {
			return fmt.Errorf("%q: ** stands only at the end", clip(path))
		}
		switch {
		case seg == "":
			continue
		case seg == "**":
			r.rest = true
			continue
		case seg[0] == '{' && seg[len(seg)-1] == '}':
			seg = "*"
		case strings.ContainsAny(seg, "{}"):
			return fmt.Errorf("%q: {name} stands for a whole segment", clip(path))
		}
		r.segments = append(r.segments, strings.ToLower(seg))
	}
	return nil
}

func parseSizes(s string) (lo, hi int64, err error) {
	a, b, ok := strings.Cut(s, "-")
	if !ok {
		b = a
	}
	lo, err1 := strconv.ParseInt(strings.TrimSpace(a), 10, 64)
	hi, err2 := strconv.ParseInt(strings.TrimSpace(b), 10, 64)
	if err1 != nil || err2 != nil || lo < 0 || hi < lo {
		return 0, -1, fmt.Errorf("%q; want bytes like 1900-1920", clip(s))
	}
	return lo, hi, nil
}

// Attempt reports whether a request tries to log in: it goes to a login
// endpoint, or carries an HTTP user and is answered 401. It does not allocate
// for paths up to 256 bytes.
func (l *LoginRules) Attempt(method, path string, status uint16, hasBasicUser bool) bool {
	return l.flags(method, path, status, hasBasicUser) == FlagLogin
}

// flags is FlagLogin for an attempt to log in, FlagAsks for a request that asks
// about an account otherwise, else 0.
func (l *LoginRules) flags(method, path string, status uint16, hasBasicUser bool) RequestFlags {
	if hasBasicUser && status == 401 {
		return FlagLogin
	}
	if !l.any && method != "POST" && method != "PUT" {
		return 0
	}
	if e, ok := l.Endpoint(method, path); ok {
		switch e.Role {
		case RoleLogin:
			return FlagLogin
		case RoleReset, RoleRegister, RoleLookup:
			return FlagAsks
		}
	}
	return 0
}

// Endpoint returns what is known of an endpoint; false for an ordinary one.
// The first configured rule that matches decides.
func (l *LoginRules) Endpoint(method, path string) (LoginEndpoint, bool) {
	var room [256]byte
	buf := room[:0]
	if len(path) >= len(room) {
		buf = make([]byte, 0, len(path)+1)
	}
	clean := loginPath(buf, path)
	if r := l.find(method, clean); r != nil {
		return LoginEndpoint{r.role, r.weight, true}, true
	}
	if method != "POST" && method != "PUT" {
		return LoginEndpoint{}, false
	}
	return namedLogin(clean)
}

// Failed says what the answer to a login attempt means: known is false where it
// does not tell. bytes is the response size, -1 unknown. answers401 says that
// the endpoint is known to answer failures with 401 or 403, so that 2xx and 3xx
// mean success. basis is configured, learned, status, standard (a token
// endpoint answers failures with 400 or 401: RFC 6749 section 5.2) or unknown.
func (l *LoginRules) Failed(method, path string, status uint16, bytes int64, answers401 bool) (failed, known bool, basis string) {
	if len(l.rules) > 0 {
		var room [256]byte
		buf := room[:0]
		if len(path) >= len(room) {
			buf = make([]byte, 0, len(path)+1)
		}
		if r := l.find(method, loginPath(buf, path)); r != nil && (len(r.status) > 0 || r.sizeHi >= 0) {
			switch {
			case slices.Contains(r.status, status), r.sizeHi >= 0 && bytes >= r.sizeLo && bytes <= r.sizeHi:
				return true, true, "configured"
			case status >= 200 && status < 400 && (r.sizeHi < 0 || bytes >= 0):
				return false, true, "configured"
			}
		}
	}
	switch {
	case status == 400 || status == 401 || status == 403 || status == 422 || status == 429:
		return true, true, "status"
	case status >= 200 && status < 400 && answers401:
		return false, true, "learned"
	case status >= 200 && status < 300 && grantsTokens(path):
		return false, true, "standard"
	}
	return false, false, "unknown"
}

// grantsTokens reports whether path is a token endpoint: an OAuth one, or one
// named like it. Programs come back there all day with what they were granted.
func grantsTokens(path string) bool {
	return strings.HasSuffix(strings.TrimSuffix(path, "/"), "/token")
}

func (l *LoginRules) find(method string, clean []byte) *endpointRule {
	for i := range l.rules {
		r := &l.rules[i]
		if (r.method == "" || r.method == method) && r.covers(clean) {
			return r
		}
	}
	return nil
}

// covers reports whether a clean path matches.
func (r *endpointRule) covers(clean []byte) bool {
	for _, want := range r.segments {
		if len(clean) == 0 {
			return false
		}
		clean = clean[1:] // '/'
		n := 0
		for n < len(clean) && clean[n] != '/' {
			n++
		}
		if !globSegment(want, clean[:n]) {
			return false
		}
		clean = clean[n:]
	}
	return r.rest || len(clean) == 0
}

// globSegment matches s against a pattern whose '*' is any run of bytes. It
// takes time proportional to the product of the lengths at worst.
func globSegment(pattern string, s []byte) bool {
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && pattern[p] == s[i]:
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
