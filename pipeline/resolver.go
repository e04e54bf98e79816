package pipeline

import (
	"fmt"
	"strings"

	"github.com/valyala/fastjson"
)

// IdentityCounts says how well requests could be tied to somebody.
type IdentityCounts struct {
	Requests     int64 // resolved
	NoAddress    int64 // neither a peer nor a trusted header named an address
	Hostname     int64 // of these: the log has host names or the like in place of addresses
	BadForwarded int64 // a trusted proxy's header held something that is no address
	NoPrincipal  int64 // nobody could be named at all
}

// Resolver fills in who requests belong to. One goroutine uses a Resolver.
// A value seen recently costs one look-up and no allocation; strings it puts
// into requests are its own, never written again, and safe to keep.
type Resolver struct {
	id       *Identity
	accounts tokens
	sessions tokens
	keys     tokens
	auth     tokenCache[credential]
	counts   IdentityCounts
	scratch  []byte // decoded credentials; cleared after use
	json     fastjson.Parser
	query    []byte // scratch
	agents   agentScans
	sender   uint64 // Address.Owner of the request at hand
}

// NewResolver returns a Resolver for one worker.
func (id *Identity) NewResolver() *Resolver {
	return &Resolver{
		id:       id,
		accounts: tokens{newTokenCache[string](), id.keys.AccountToken},
		sessions: tokens{newTokenCache[string](), id.keys.SessionToken},
		keys:     tokens{newTokenCache[string](), id.keyToken},
		auth:     newTokenCache[credential](),
		scratch:  make([]byte, 0, 512),
	}
}

// Format writes "<secret>".
func (r Resolver) Format(s fmt.State, _ rune) { fmt.Fprint(s, "<secret>") }

// MarshalText writes "<secret>".
func (r Resolver) MarshalText() ([]byte, error) { return []byte("<secret>"), nil }

// Counts returns what was counted so far.
func (r *Resolver) Counts() IdentityCounts { return r.counts }

// Resolve sets Address, Forwarded, Account, Key, Session, LoginUser, Kind,
// Owner and the flags FlagLogin, FlagAsks and FlagRefused of req from c and from
// Method, Path, Status, Operation and the flags of the application's answer,
// which must be set already, and reduces Query, Referer and
// Path to what may leave collect; Query is then valid until the next call. It
// keeps nothing of c.
//
// A login attempt and a question about an account belong to the address. Else, where the server accepted the
// request (2xx, 3xx), it belongs to the subject or account it carries, else to
// its API key, else to its session, else to the address. Without an address
// whatever credential there is owns it, accepted or not; with none of all, Kind
// is PrincipalNone and Owner 0.
func (r *Resolver) Resolve(req *Request, c *Clear) {
	r.counts.Requests++
	req.Flags &^= FlagLogin | FlagRefused | FlagAsks
	r.address(req, c)
	if r.sender == 0 {
		r.sender = req.Address.Owner()
	}

	subject, basicUser := r.credentials(req, c)
	status := req.Answer()
	refused := status == 401 || status == 403
	if refused && (req.Account != "" || req.Key != "" || req.Session != "") {
		req.Flags |= FlagRefused
	}
	ask := r.id.logins.flags(req.Method, req.Path, status, basicUser)
	if LoginOperation(req.Operation) {
		ask = FlagLogin
	}
	req.Flags |= ask
	if ask != 0 && req.LoginUser == "" && !absent(c.BodyUser) {
		req.LoginUser = r.accounts.of(c.BodyUser)
	}
	if ask == FlagLogin {
		if req.LoginUser == "" && basicUser && status == 401 {
			req.LoginUser = req.Account
		}
	}
	if !own(req, subject, r.sender) {
		r.counts.NoPrincipal++
	}
	r.reduce(req)
}

// own decides the principal; sender is Address.Owner. It is false if nobody can
// be named.
func own(req *Request, subject bool, sender uint64) bool {
	login := req.Flags&(FlagLogin|FlagAsks) != 0
	status := req.Answer()
	accepted := status >= 200 && status < 400
	if !req.Address.IsZero() && (login || !accepted) {
		req.Kind, req.Owner = PrincipalIP, sender
		return true
	}
	// Without an address an attempt falls to the session it was made in before
	// the account: that one may be the victim.
	switch {
	case req.Account != "" && !login && subject:
		req.Kind, req.Owner = PrincipalSubject, HashPrincipal(PrincipalSubject, req.Account)
	case req.Account != "" && !login:
		req.Kind, req.Owner = PrincipalAccount, HashPrincipal(PrincipalAccount, req.Account)
	case req.Key != "":
		req.Kind, req.Owner = PrincipalKey, HashPrincipal(PrincipalKey, req.Key)
	case req.Session != "":
		req.Kind, req.Owner = PrincipalSession, HashPrincipal(PrincipalSession, req.Session)
	case !req.Address.IsZero():
		req.Kind, req.Owner = PrincipalIP, sender
	case req.Account != "":
		req.Kind, req.Owner = PrincipalAccount, HashPrincipal(PrincipalAccount, req.Account)
	default:
		req.Kind, req.Owner = PrincipalNone, 0
		return false
	}
	return true
}

// address sets Address and Forwarded, and sender where that is cheap.
func (r *Resolver) address(req *Request, c *Clear) {
	req.Address, req.Forwarded, r.sender = Address{}, Address{}, 0
	if c.Forwarded == "" && c.ForwardedStd == "" && c.RealIP == "" {
		// Most lines: a plain address and no header to weigh.
		if ip, ok := parseIPv4(c.Remote); ok {
			req.Address.put4(ip)
			r.sender = owner4(ip)
			return
		}
	}
	if c.RealIP != "" {
		if a, ok := parseHost(c.RealIP); ok {
			req.Address = a
			return
		}
	}
	remote, header := c.Remote, hopReader{rest: c.Forwarded}
	if absent(header.rest) {
		header = hopReader{rest: c.ForwardedStd, std: true}
		if absent(header.rest) {
			header = hopReader{}
		}
	}
	// A log that writes a forwarding header in the place of the peer, or has no
	// peer: the last entry is the hop nearest to the server and stands for it.
	if absent(remote) && !header.std {
		remote, header = header.rest, hopReader{}
	}
	if i := strings.LastIndexByte(remote, ','); i >= 0 {
		header = hopReader{rest: remote[:i]}
		remote = remote[i+1:]
	}
	peer, ok := parseHost(remote)
	trusted := ok && r.id.trusted.contains(peer)
	if !ok && r.id.trustUnix && strings.HasPrefix(remote, unixPeer) {
		trusted = true
	}
	if header.rest == "" {
		req.Address = peer
	} else {
		w := r.id.walk(peer, trusted, header)
		req.Address, req.Forwarded = w.client, w.claim
		if w.bad {
			r.counts.BadForwarded++
		}
	}
	if req.Address.IsZero() {
		r.counts.NoAddress++
		if !absent(c.Remote) && !strings.HasPrefix(remote, unixPeer) {
			r.counts.Hostname++
		}
	}
}

// credentials fills the tokens. It says whether Account names a subject, and
// whether a user came with HTTP authentication (or in the log's user field,
// where servers write what was sent, right or wrong).
func (r *Resolver) credentials(req *Request, c *Clear) (subject, basicUser bool) {
	req.Account, req.Key, req.Session, req.LoginUser = "", "", "", ""
	if c.bare() {
		return false, false
	}
	var auth credential
	if c.Authorization != "" {
		auth = r.authorization(c.Authorization)
	}
	switch {
	// What the source states about the user comes before what the client sent.
	case !nobody(c.Subject):
		req.Account, subject = r.accounts.of(c.Subject), true
	case !nobody(c.User):
		req.Account = r.accounts.of(c.User)
	case auth.kind == credentialSubject:
		req.Account, subject = auth.token, true
	case auth.kind == credentialUser:
		req.Account = auth.token
	}
	basicUser = auth.kind == credentialUser || !nobody(c.User)

	if !nobody(c.APIKey) {
		req.Key = r.keys.of(c.APIKey)
	} else if auth.kind == credentialKey {
		req.Key = auth.token
	}
	if !nobody(c.Session) {
		req.Session = r.sessions.of(c.Session)
	} else if auth.kind == credentialSession {
		req.Session = auth.token
	}
	if !absent(c.LoginUser) {
		req.LoginUser = r.accounts.of(c.LoginUser)
	}
	return subject, basicUser
}

func (r *Resolver) accountBytes(name []byte) string {
	k := r.accounts.keyOfBytes(name)
	t, ok := r.accounts.get(k)
	if !ok {
		t = r.id.keys.AccountToken(string(name))
		r.accounts.put(k, t)
	}
	return t
}

// absent reports whether a field is what logs write for nothing.
func absent(s string) bool {
	return s == "" || s == "-" || s == `""` || strings.TrimSpace(s) == ""
}

// nobody reports whether a field names no one: absent, or a word that programs
// log for visitors without an account. Taken as a name it would make one
// principal of all of them.
func nobody(s string) bool {
	if absent(s) {
		return true
	}
	if len(s) < 3 || len(s) > 13 {
		return false
	}
	for _, word := range [...]string{"null", "nil", "none", "(null)", "undefined", "anonymous", "anonymoususer", "unknown", "n/a", "guest"} {
		if len(s) == len(word) && strings.EqualFold(s, word) {
			return true
		}
	}
	return false
}
