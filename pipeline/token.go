package pipeline

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/maphash"
	"strings"
	"unicode/utf8"

	"github.com/tink-crypto/tink-go/v2/daead/subtle"
)

// Tokens stand for names and secrets behind collect:
//
//	u_…          an account, subject or login name; opens under the privacy key
//	s_…          a session; one way
//	k_PREFIX_…   an API key; one way, its first characters stay readable
//
// Equal values give equal tokens under one privacy key, on any machine.
const (
	accountTag = "u_"
	sessionTag = "s_"
	keyTag     = "k_"

	macBytes = 16
	macText  = 22 // macBytes in unpadded base64

	maxName   = 256     // bytes of a name; longer ones are cut and marked with a hash
	maxSecret = 1 << 14 // bytes of a session, key or header; a longer one is no credential

	accountAD = "weir account"
)

// PrivacyKeys makes tokens and opens those of names. It is immutable and safe
// to share. It prints as "<secret>" under every verb.
type PrivacyKeys struct {
	siv         *subtle.AESSIV
	session     []byte
	key         []byte
	fingerprint string
	public      bool
}

// masterBytes is the size of the master key that all others derive from.
const masterBytes = 32

func newPrivacyKeys(master []byte) (*PrivacyKeys, error) {
	derive := func(use string, n int) ([]byte, error) {
		return hkdf.Key(sha256.New, master, nil, "weir/1 "+use, n)
	}
	siv, err := derive("account", subtle.AESSIVKeySize)
	if err != nil {
		return nil, fmt.Errorf("derive account key: %w", err)
	}
	session, err := derive("session", 32)
	if err != nil {
		return nil, fmt.Errorf("derive session key: %w", err)
	}
	key, err := derive("api key", 32)
	if err != nil {
		return nil, fmt.Errorf("derive api key key: %w", err)
	}
	print, err := derive("fingerprint", 8)
	if err != nil {
		return nil, fmt.Errorf("derive fingerprint: %w", err)
	}
	k := &PrivacyKeys{session: session, key: key, fingerprint: hex.EncodeToString(print)}
	if k.siv, err = subtle.NewAESSIV(siv); err != nil {
		return nil, fmt.Errorf("make account cipher: %w", err)
	}
	return k, nil
}

// Fingerprint names the key without revealing it: 16 hex digits, equal on all
// machines that share the key file.
func (k *PrivacyKeys) Fingerprint() string { return k.fingerprint }

// Public reports whether these are the well-known keys of PublicKeys: their
// tokens hide nothing.
func (k *PrivacyKeys) Public() bool { return k.public }

// Format writes "<secret>".
func (k PrivacyKeys) Format(s fmt.State, _ rune) { fmt.Fprint(s, "<secret>") }

// String returns "<secret>".
func (k PrivacyKeys) String() string { return "<secret>" }

// MarshalText writes "<secret>".
func (k PrivacyKeys) MarshalText() ([]byte, error) { return []byte("<secret>"), nil }

// AccountToken returns the token of an account, subject or login name: the
// name is trimmed and lower-cased first, so that "Bob" and "bob " are one. An
// empty name has the empty token. The length of a name shows in its token.
func (k *PrivacyKeys) AccountToken(name string) string {
	name = lowerName(strings.TrimSpace(name))
	if name == "" {
		return ""
	}
	if len(name) > maxName {
		var sum [8]byte
		binary.BigEndian.PutUint64(sum[:], Hash64(name))
		name = name[:maxName-17] + "~" + hex.EncodeToString(sum[:])
	}
	sealed, err := k.siv.EncryptDeterministically([]byte(name), []byte(accountAD))
	if err != nil { // only for plaintexts near the size of the address space
		return ""
	}
	return accountTag + base64.RawURLEncoding.EncodeToString(sealed)
}

// lowerName is strings.ToLower that leaves bytes alone which are no UTF-8:
// names in another encoding must not become equal.
func lowerName(s string) string {
	if utf8.ValidString(s) {
		return strings.ToLower(s)
	}
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c | 0x20
		}
	}
	return string(b)
}

// Open returns the name behind an account token as AccountToken normalised it;
// false when token is none or was made under another key. The name is what a
// client sent: print it with care.
func (k *PrivacyKeys) Open(token string) (string, bool) {
	text, ok := strings.CutPrefix(token, accountTag)
	if !ok || len(text) > 2*maxName {
		return "", false
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return "", false
	}
	name, err := k.siv.DecryptDeterministically(sealed, []byte(accountAD))
	if err != nil || len(name) == 0 {
		return "", false
	}
	return string(name), true
}

// SessionToken returns the token of a session identifier; "" for "".
func (k *PrivacyKeys) SessionToken(value string) string {
	if value == "" {
		return ""
	}
	return sessionTag + mac(k.session, value)
}

// KeyToken returns the token of an API key with up to prefix of its first
// characters in clear, never more than half of them; "" for "".
func (k *PrivacyKeys) KeyToken(value string, prefix int) string {
	if value == "" {
		return ""
	}
	return k.keyToken(value, min(prefix, len(value)/2))
}

// keyToken is KeyToken with exactly n characters in clear, if they are plain.
func (k *PrivacyKeys) keyToken(value string, n int) string {
	return keyTag + plainPrefix(value, n) + "_" + mac(k.key, value)
}

// keyPrefix returns the clear part of a key token.
func keyPrefix(token string) (string, bool) {
	text, ok := strings.CutPrefix(token, keyTag)
	if !ok || len(text) < macText+1 {
		return "", false
	}
	return text[:len(text)-macText-1], true
}

// plainPrefix returns the first n bytes of value, or fewer: it ends before the
// first one that is not a letter, digit, '_', '-' or '.'.
func plainPrefix(value string, n int) string {
	for i := range min(max(n, 0), len(value)) {
		if !plainByte(value[i]) {
			return value[:i]
		}
	}
	return value[:min(max(n, 0), len(value))]
}

func plainByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.'
}

func mac(key []byte, value string) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(value))
	var sum [sha256.Size]byte
	return base64.RawURLEncoding.EncodeToString(h.Sum(sum[:0])[:macBytes])
}

// cacheEntries bounds one generation of a tokenCache.
const cacheEntries = 8192

// tokenCache remembers what was made of recent values without keeping the
// values: it is keyed by two 64-bit hashes under seeds of this process, so no
// secret stays in memory and nobody outside can make two values collide. A full
// generation becomes the old one, and the old one is dropped; what is still in
// use moves over. One goroutine uses a tokenCache.
type tokenCache[V any] struct {
	a, b     maphash.Seed
	cur, old map[cacheKey]V
}

type cacheKey struct{ a, b uint64 }

func newTokenCache[V any]() tokenCache[V] {
	return tokenCache[V]{
		a: maphash.MakeSeed(), b: maphash.MakeSeed(),
		cur: make(map[cacheKey]V), old: make(map[cacheKey]V),
	}
}

func (c *tokenCache[V]) keyOf(value string) cacheKey {
	return cacheKey{maphash.String(c.a, value), maphash.String(c.b, value)}
}

func (c *tokenCache[V]) keyOfBytes(value []byte) cacheKey {
	return cacheKey{maphash.Bytes(c.a, value), maphash.Bytes(c.b, value)}
}

func (c *tokenCache[V]) get(k cacheKey) (V, bool) {
	v, ok := c.cur[k]
	if ok {
		return v, true
	}
	if v, ok = c.old[k]; ok {
		c.put(k, v)
	}
	return v, ok
}

func (c *tokenCache[V]) put(k cacheKey, v V) {
	if len(c.cur) >= cacheEntries {
		clear(c.old)
		c.cur, c.old = c.old, c.cur
	}
	c.cur[k] = v
}

// tokens makes tokens of one kind and remembers recent ones.
type tokens struct {
	tokenCache[string]
	token func(value string) string
}

// of returns value's token; none for a value too long to be one.
func (t *tokens) of(value string) string {
	if len(value) > maxSecret {
		return ""
	}
	k := t.keyOf(value)
	v, ok := t.get(k)
	if !ok {
		v = t.token(value)
		t.put(k, v)
	}
	return v
}
