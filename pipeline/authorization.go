package pipeline

import (
	"bytes"
	"encoding/base64"
	"strings"

	"github.com/valyala/fastjson"
)

// What an Authorization header carries. Nothing is verified here: the server's
// answer decides whether it counts.
//
//	Bearer <JWT>        a subject: sub, else client_id, else azp of its payload
//	Bearer <other>      a session; so are Token and a bare value
//	Basic, Digest       a user; the password is wiped
//	ApiKey, AWS4-…      an API key (for AWS its access key id)
//	anything else       nothing: Negotiate and NTLM change with every request

type credentialKind uint8

const (
	credentialNone credentialKind = iota
	credentialSubject
	credentialUser
	credentialSession
	credentialKey
)

type credential struct {
	kind  credentialKind
	token string
}

const (
	maxPayload = 8 << 10 // encoded bytes of a JWT payload that are read
	maxBasic   = 2 << 10 // encoded bytes of Basic credentials that are read
)

// authorization reads a header, from the cache where it can. Basic is never
// cached under its text, nor kept: it holds the password.
func (r *Resolver) authorization(header string) credential {
	if len(header) > maxSecret {
		return credential{}
	}
	header = strings.Trim(header, " \t")
	scheme, rest, ok := strings.Cut(header, " ")
	if !ok {
		scheme, rest = "", header
	}
	rest = strings.Trim(rest, " \t")
	if nobody(rest) {
		return credential{}
	}
	if strings.EqualFold(scheme, "Basic") {
		return r.basic(rest)
	}
	k := r.auth.keyOf(header)
	c, ok := r.auth.get(k)
	if !ok {
		c = r.parseAuthorization(scheme, rest)
		r.auth.put(k, c)
	}
	return c
}

func (r *Resolver) parseAuthorization(scheme, rest string) credential {
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		if t := r.jwtSubject(rest); t != "" {
			return credential{credentialSubject, t}
		}
		return sessionCredential(r.sessions.of(rest))
	case scheme == "" && !strings.EqualFold(rest, "Basic") && !strings.EqualFold(rest, "Bearer"),
		strings.EqualFold(scheme, "Token"):
		return sessionCredential(r.sessions.of(rest))
	case strings.EqualFold(scheme, "ApiKey"), strings.EqualFold(scheme, "Api-Key"), strings.EqualFold(scheme, "Key"):
		return credential{credentialKey, r.keys.of(rest)}
	case strings.EqualFold(scheme, "Digest"):
		if name := authParam(rest, "username"); !nobody(name) {
			return credential{credentialUser, r.accounts.of(name)}
		}
	case strings.EqualFold(scheme, "AWS4-HMAC-SHA256"):
		id, _, _ := strings.Cut(authParam(rest, "Credential"), "/")
		if !absent(id) {
			return credential{credentialKey, r.keys.of(id)}
		}
	}
	return credential{}
}

func sessionCredential(token string) credential {
	if token == "" {
		return credential{}
	}
	return credential{credentialSession, token}
}

// basic returns the user of Basic credentials.
func (r *Resolver) basic(text string) credential {
	if len(text) > maxBasic {
		return credential{}
	}
	plain, ok := r.decode(text, base64.RawStdEncoding)
	defer r.wipe()
	user, _, colon := bytes.Cut(plain, []byte{':'})
	if !ok || !colon || len(bytes.TrimSpace(user)) == 0 {
		return credential{}
	}
	if t := r.accountBytes(user); t != "" {
		return credential{credentialUser, t}
	}
	return credential{}
}

// jwtSubject returns the account token of the subject of a JWT; "" if text is
// none, or names nobody.
func (r *Resolver) jwtSubject(text string) string {
	if !strings.HasPrefix(text, "eyJ") {
		return ""
	}
	_, text, ok := strings.Cut(text, ".")
	if !ok {
		return ""
	}
	payload, signature, ok := strings.Cut(text, ".")
	if !ok || len(payload) > maxPayload || strings.IndexByte(signature, '.') >= 0 {
		return "" // five parts are an encrypted token: nothing to read
	}
	plain, ok := r.decode(payload, base64.RawURLEncoding)
	defer r.wipe()
	if !ok {
		return ""
	}
	v, err := r.json.ParseBytes(plain)
	if err != nil {
		return ""
	}
	for _, claim := range [...]string{"sub", "client_id", "azp"} {
		var name []byte
		switch c := v.Get(claim); {
		case c == nil:
		case c.Type() == fastjson.TypeString:
			name = c.GetStringBytes()
		case c.Type() == fastjson.TypeNumber:
			name = c.MarshalTo(nil)
		}
		if s := string(name); !nobody(s) {
			return r.accounts.of(s)
		}
	}
	return ""
}

// decode decodes base64 with or without padding into the resolver's scratch;
// the caller wipes it.
func (r *Resolver) decode(text string, enc *base64.Encoding) ([]byte, bool) {
	text = strings.TrimRight(text, "=")
	r.scratch = append(r.scratch[:0], text...)
	r.scratch = append(r.scratch, text...) // as room for what it decodes to
	plain := r.scratch[len(text):]
	n, err := enc.Decode(plain, r.scratch[:len(text)])
	return plain[:n], err == nil
}

// wipe clears the scratch.
func (r *Resolver) wipe() { clear(r.scratch) }

// authParam returns the value of a parameter in "name=value, name="value"".
func authParam(s, name string) string {
	for s != "" {
		s = strings.TrimLeft(s, " \t,")
		key, rest, ok := strings.Cut(s, "=")
		if !ok {
			return ""
		}
		var value string
		if strings.HasPrefix(rest, `"`) {
			value, rest, _ = strings.Cut(rest[1:], `"`)
		} else {
			value, rest, _ = strings.Cut(rest, ",")
		}
		if strings.EqualFold(strings.Trim(key, " \t"), name) {
			return strings.Trim(value, " \t")
		}
		s = rest
	}
	return ""
}
