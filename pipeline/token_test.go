package pipeline

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func publicKeys(t testing.TB) *PrivacyKeys {
	t.Helper()
	k, err := PublicKeys()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestAccountTokens(t *testing.T) {
	k := publicKeys(t)
	same := func(a, b string, want bool) {
		t.Helper()
		if got := k.AccountToken(a) == k.AccountToken(b); got != want {
			t.Errorf("%q and %q: same token %v, want %v", a, b, got, want)
		}
	}
	same("Bob", " bob\t", true)
	same("bob", "bobby", false)
	same("ÄRZTE@example.org", "ärzte@example.org", true)
	same("m\xfcller", "m\xf6ller", false)
	same("M\xfcller", "m\xfcller", true)
	long := strings.Repeat("x", 300)
	same(long, long, true)
	same(long, long+"y", false)

	opens := func(name, want string) {
		t.Helper()
		tok := k.AccountToken(name)
		if got, ok := k.Open(tok); !ok || got != want {
			t.Errorf("open %q: %q %v, want %q", tok, got, ok, want)
		}
	}
	opens("Alice@Example.org", "alice@example.org")
	opens("\xff\x00", "\xff\x00")
	if tok := k.AccountToken(" "); tok != "" {
		t.Errorf("token of nothing: %q", tok)
	}
	if got, _ := k.Open(k.AccountToken(long)); len(got) > maxName || !strings.HasPrefix(got, "xxx") {
		t.Errorf("long name opens to %d bytes", len(got))
	}
	other, err := newPrivacyKeys([]byte(strings.Repeat("k", masterBytes)))
	if err != nil {
		t.Fatal(err)
	}
	good := k.AccountToken("alice")
	for _, bad := range []string{"", "u_", "u_!!", "alice", good[:len(good)-1], good + "A", k.SessionToken("alice"), "u_" + strings.Repeat("A", 10000), other.AccountToken("alice")} {
		if name, ok := k.Open(bad); ok {
			t.Errorf("open %.40q: %q", bad, name)
		}
	}
	if other.Fingerprint() == k.Fingerprint() || len(k.Fingerprint()) != 16 {
		t.Errorf("fingerprints %q %q", other.Fingerprint(), k.Fingerprint())
	}
	// A change here starts every identity of every deployment anew.
	if tok := k.AccountToken("alice"); tok != "u_kdxNs96MPigDxVHD0_24KudBijhi" {
		t.Errorf("token of alice changed: %s", tok)
	}
}

func TestSecretTokens(t *testing.T) {
	k := publicKeys(t)
	f := func(key string, prefix int, want string) {
		t.Helper()
		tok := k.KeyToken(key, prefix)
		got, ok := keyPrefix(tok)
		if !ok || got != want {
			t.Errorf("%q with %d: prefix %q of %s, want %q", key, prefix, got, tok, want)
		}
	}
	f("acme_live_0123456789", 4, "acme")
	f("acme_live_0123456789", 0, "")
	f("acme_live_0123456789", 16, "acme_live_")
	f("abcdef", 4, "abc")
	f("a\nbcdefghijk", 4, "a")
	f("x", 4, "")
	if k.SessionToken("a") == k.SessionToken("b") || strings.TrimPrefix(k.SessionToken("a"), sessionTag) == strings.TrimPrefix(k.KeyToken("a", 0), keyTag+"_") {
		t.Error("tokens meet that must not")
	}
	if k.SessionToken("") != "" || k.KeyToken("", 4) != "" {
		t.Error("nothing has a token")
	}
}

func TestPrivacyKeyFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "privacy.key")
	made, err := LoadOrCreatePrivacyKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", st.Mode(), err)
	}
	again, err := LoadOrCreatePrivacyKeys(path)
	if err != nil || again.Fingerprint() != made.Fingerprint() || again.AccountToken("a") != made.AccountToken("a") {
		t.Fatalf("second load differs: %v", err)
	}
	// Somebody else's file that appears meanwhile stays.
	if err := createPrivacyKey(path); err != nil {
		t.Fatal(err)
	}
	if again, err = LoadOrCreatePrivacyKeys(path); err != nil || again.Fingerprint() != made.Fingerprint() {
		t.Fatalf("key was replaced: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("files left behind: %v", left)
	}
	f := func(content string, mode fs.FileMode, want string) {
		t.Helper()
		p := filepath.Join(t.TempDir(), "k")
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
		_, err := LoadOrCreatePrivacyKeys(p)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q %o: %v, want %q", content, mode, err, want)
		}
		if err != nil && len(content) > 8 && strings.Contains(err.Error(), content[:8]) {
			t.Errorf("error repeats the key: %v", err)
		}
	}
	key := strings.Repeat("5e", masterBytes)
	f(key, 0o640, "chmod 600")
	f(key, 0o604, "chmod 600")
	f(key[2:], 0o600, "hex digits")
	f(key+"5e", 0o600, "hex digits")
	f("zz"+key[2:], 0o600, "hex digits")
	f("", 0o600, "hex digits")
	f(strings.Repeat("00", masterBytes), 0o600, "all zero")
	if _, err := LoadOrCreatePrivacyKeys(filepath.Join(dir, "no", "such")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing folder: %v", err)
	}
	if _, err := LoadOrCreatePrivacyKeys(dir); err == nil || !strings.Contains(err.Error(), "regular") {
		t.Errorf("folder: %v", err)
	}
}

// Nothing that holds a secret prints it.
func TestSecretsDoNotPrint(t *testing.T) {
	master := []byte("0123456789abcdef0123456789abcdef")
	k, err := newPrivacyKeys(master)
	if err != nil {
		t.Fatal(err)
	}
	id, err := NewIdentity(DefaultIdentityConfig(), k, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := id.NewResolver()
	var req Request
	r.Resolve(&req, &Clear{
		Remote: "192.0.2.1", User: "Walter.Hidden", APIKey: "sk_live_SECRETKEYSECRET", Session: "SECRETSESSION",
		LoginUser: "Walter.Hidden", Authorization: basicHeader("walter", "SECRETPASSWORD"),
	})
	r.Resolve(new(Request), &Clear{Authorization: "Bearer SECRETBEARER"})
	r.Resolve(new(Request), &Clear{Authorization: "Bearer " + jwt(`{"sub":"Walter.Hidden","x":"SECRETCLAIM"}`)})
	for _, v := range []any{k, *k, id, *id, r, *r, req, &req, struct{ K *PrivacyKeys }{k}, struct{ K PrivacyKeys }{*k}, []*Resolver{r}, r.Counts()} {
		texts := []string{fmt.Sprint(v), fmt.Sprintf("%+v", v), fmt.Sprintf("%#v", v), fmt.Sprintf("%s", v), fmt.Sprintf("%x", v)}
		b, err := json.Marshal(v)
		if err != nil {
			t.Errorf("%T: %v", v, err)
		}
		for _, s := range append(texts, string(b)) {
			for _, secret := range []string{"SECRET", "idden", "alter", fmt.Sprintf("%x", k.session), fmt.Sprintf("%v", k.session), fmt.Sprintf("%v", k.key), "53454352"} {
				if strings.Contains(s, secret) {
					t.Errorf("%T shows %q: %.200s", v, secret, s)
				}
			}
		}
	}
	for _, b := range r.scratch[:cap(r.scratch)] {
		if b != 0 {
			t.Fatalf("scratch keeps %q", r.scratch[:cap(r.scratch)])
		}
	}
	if s := k.String(); s != "<secret>" {
		t.Errorf("String: %q", s)
	}
}

func TestTokenCacheBounded(t *testing.T) {
	c := newTokenCache[string]()
	hot := c.keyOf("hot")
	c.put(hot, "v")
	for i := range 10 * cacheEntries {
		c.put(c.keyOf(fmt.Sprint(i)), "x")
		if v, ok := c.get(hot); !ok || v != "v" {
			t.Fatalf("a value in use was dropped after %d others", i)
		}
	}
	if n := len(c.cur) + len(c.old); n > 2*cacheEntries {
		t.Errorf("%d entries", n)
	}
	if _, ok := c.get(c.keyOf("0")); ok {
		t.Error("an old value is still there")
	}
}
