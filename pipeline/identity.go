package pipeline

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// IdentityConfig is the section identity of the configuration.
type IdentityConfig struct {
	// TrustedProxies are the addresses and networks whose forwarding headers
	// are believed; "unix:" stands for a peer on a local socket.
	TrustedProxies []string `yaml:"trusted_proxies" json:"trusted_proxies"`
	// InternalNetworks are the operator's own.
	InternalNetworks []string      `yaml:"internal_networks" json:"internal_networks"`
	KnownClients     []KnownClient `yaml:"known_clients" json:"known_clients"`
	// APIKeyPrefix is how many first characters of an API key stay readable,
	// at most half of the key.
	APIKeyPrefix int `yaml:"api_key_prefix" json:"api_key_prefix"`
}

// KnownClient names a client that is expected to be unusual. One of Key, IP
// and Account is set.
type KnownClient struct {
	Name    string `yaml:"name" json:"name"`
	Key     string `yaml:"key,omitempty" json:"key,omitempty"` // first characters of its API keys
	IP      string `yaml:"ip,omitempty" json:"ip,omitempty"`   // address or network
	Account string `yaml:"account,omitempty" json:"account,omitempty"`
}

const (
	maxNetworks     = 4096
	maxKnownClients = 1024
	maxKeyPrefix    = 16
	unixPeer        = "unix:"
)

// DefaultIdentityConfig trusts nobody and keeps four characters of a key.
func DefaultIdentityConfig() IdentityConfig { return IdentityConfig{APIKeyPrefix: 4} }

// Validate returns every problem, each with its YAML path, joined; nil if none.
func (c IdentityConfig) Validate() error {
	var errs []error
	bad := func(path, format string, args ...any) {
		errs = append(errs, fmt.Errorf("identity."+path+": "+format, args...))
	}
	list := func(name string, nets []string, unix bool) {
		if len(nets) > maxNetworks {
			bad(name, "%d entries; at most %d", len(nets), maxNetworks)
			return
		}
		for i, s := range nets {
			if unix && s == unixPeer {
				continue
			}
			if p, err := parseNetwork(s); err != nil {
				bad(fmt.Sprintf("%s[%d]", name, i), "%w", err)
			} else if unix && p.Bits() == 0 {
				bad(fmt.Sprintf("%s[%d]", name, i), "%q trusts everyone, so any client could pose as any address; list the proxies alone", clip(s))
			}
		}
	}
	list("trusted_proxies", c.TrustedProxies, true)
	list("internal_networks", c.InternalNetworks, false)
	if c.APIKeyPrefix < 0 || c.APIKeyPrefix > maxKeyPrefix {
		bad("api_key_prefix", "%d; want 0 to %d characters", c.APIKeyPrefix, maxKeyPrefix)
	}
	if len(c.KnownClients) > maxKnownClients {
		bad("known_clients", "%d entries; at most %d", len(c.KnownClients), maxKnownClients)
		return errors.Join(errs...)
	}
	for i, k := range c.KnownClients {
		path := fmt.Sprintf("known_clients[%d]", i)
		if strings.TrimSpace(k.Name) == "" {
			bad(path+".name", "missing")
		}
		set := 0
		for _, v := range [...]string{k.Key, k.IP, k.Account} {
			if strings.TrimSpace(v) != "" {
				set++
			}
		}
		if set != 1 {
			bad(path, "set one of key, ip and account; %d are set", set)
		}
		if k.IP != "" {
			if _, err := parseNetwork(k.IP); err != nil {
				bad(path+".ip", "%w", err)
			}
		}
		// The value may be a whole key pasted by mistake: never repeat it.
		if len(k.Key) > maxKeyPrefix {
			bad(path+".key", "%d characters; give at most the first %d, which stay readable in alerts", len(k.Key), maxKeyPrefix)
		} else if plainPrefix(k.Key, len(k.Key)) != k.Key {
			bad(path+".key", "only letters, digits, '_', '-' and '.' can be matched")
		}
	}
	return errors.Join(errs...)
}

// Identity decides who a request belongs to. It is immutable and safe to
// share; each worker has a Resolver of its own.
type Identity struct {
	trusted     networks
	trustUnix   bool
	internal    networks
	keys        *PrivacyKeys
	logins      *LoginRules
	keyPrefix   int
	keyClients  []namedPrefix
	addrClients []namedNetwork
	accounts    map[string]string // token → name of the known client
	context     *Context
}

// WithContext returns id with what is known of addresses from elsewhere.
func (id *Identity) WithContext(x *Context) *Identity {
	with := *id
	with.context = x
	return &with
}

// NewAnnotator returns an annotator of the identity's context.
func (id *Identity) NewAnnotator() *Annotator { return id.context.NewAnnotator() }

// Context is what is known of addresses from elsewhere; nil if nothing.
func (id *Identity) Context() *Context { return id.context }

type namedPrefix struct{ prefix, name string }

type namedNetwork struct {
	nets networks
	name string
}

// NewIdentity compiles cfg. A nil logins means the shipped rules alone.
func NewIdentity(cfg IdentityConfig, keys *PrivacyKeys, logins *LoginRules) (*Identity, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if keys == nil {
		return nil, errors.New("make identity: no privacy keys")
	}
	if logins == nil {
		logins = &LoginRules{}
	}
	id := &Identity{
		keys: keys, logins: logins, keyPrefix: cfg.APIKeyPrefix,
		internal: mustNetworks(cfg.InternalNetworks), accounts: make(map[string]string),
	}
	var trusted []string
	for _, s := range cfg.TrustedProxies {
		if s == unixPeer {
			id.trustUnix = true
			continue
		}
		trusted = append(trusted, s)
	}
	id.trusted = mustNetworks(trusted)
	for _, k := range cfg.KnownClients {
		switch {
		case k.Key != "":
			id.keyClients = append(id.keyClients, namedPrefix{k.Key, k.Name})
		case k.IP != "":
			id.addrClients = append(id.addrClients, namedNetwork{mustNetworks([]string{k.IP}), k.Name})
		default:
			id.accounts[keys.AccountToken(k.Account)] = k.Name
		}
	}
	return id, nil
}

// mustNetworks compiles what Validate has accepted.
func mustNetworks(list []string) networks {
	var ps []netip.Prefix
	for _, s := range list {
		if p, err := parseNetwork(s); err == nil {
			ps = append(ps, p)
		}
	}
	return newNetworks(ps)
}

// Format writes "<secret>": an Identity holds keys.
func (id Identity) Format(s fmt.State, _ rune) { fmt.Fprint(s, "<secret>") }

// MarshalText writes "<secret>".
func (id Identity) MarshalText() ([]byte, error) { return []byte("<secret>"), nil }

// Trusted reports whether a is a trusted proxy.
func (id *Identity) Trusted(a Address) bool { return id.trusted.contains(a) }

// Internal reports whether a lies in the operator's own networks.
func (id *Identity) Internal(a Address) bool { return id.internal.contains(a) }

// Known returns the configured name of the client that sent req. A key or an
// account counts only where it owns the request: everyone can send a name that
// the server then refuses.
func (id *Identity) Known(req *Request) (name string, ok bool) {
	switch req.Kind {
	case PrincipalAccount, PrincipalSubject:
		if name, ok = id.accounts[req.Account]; ok {
			return name, true
		}
	case PrincipalKey:
		if have, ok := keyPrefix(req.Key); ok {
			for _, k := range id.keyClients {
				if strings.HasPrefix(have, k.prefix) {
					return k.name, true
				}
			}
		}
	}
	if !req.Address.IsZero() {
		for _, k := range id.addrClients {
			if k.nets.contains(req.Address) {
				return k.name, true
			}
		}
	}
	return "", false
}

// keyToken makes the token of an API key. The prefix of a known client stays
// whole: the operator has written it into the configuration.
func (id *Identity) keyToken(value string) string {
	n := min(id.keyPrefix, len(value)/2)
	for _, k := range id.keyClients {
		if strings.HasPrefix(value, k.prefix) && len(value) > len(k.prefix) {
			n = max(n, len(k.prefix))
		}
	}
	return id.keys.keyToken(value, n)
}
