package main

import (
	"strings"

	"weir/detectors"
	"weir/pipeline"
)

func detectorNames() []string { return detectors.Names() }

// openKeys loads the deployment's privacy keys; without a file it returns the
// well-known ones, whose tokens everybody can open: analyze prints what the log
// says anyway.
func openKeys(path string) (*pipeline.PrivacyKeys, error) {
	if path == "" {
		return pipeline.PublicKeys()
	}
	return pipeline.LoadOrCreatePrivacyKeys(path)
}

// tokenFor is the value a principal has in alerts for a name in clear.
func tokenFor(keys *pipeline.PrivacyKeys, prefix int, kind pipeline.PrincipalKind, value string) string {
	switch kind {
	case pipeline.PrincipalAccount, pipeline.PrincipalSubject:
		return keys.AccountToken(value)
	case pipeline.PrincipalSession:
		return keys.SessionToken(value)
	case pipeline.PrincipalKey:
		return keys.KeyToken(value, prefix)
	}
	return value
}

// openNames replaces every account token in what people read of al.
func openNames(al *pipeline.Alert, keys *pipeline.PrivacyKeys) {
	open := func(s string) string { return openText(s, keys) }
	al.Title, al.Reason, al.WouldNotFireIf, al.Change.Text = open(al.Title), open(al.Reason), open(al.WouldNotFireIf), open(al.Change.Text)
	al.Next = mapped(al.Next, open)
	al.BenignIf = mapped(al.BenignIf, open)
	al.Principal.Value = open(al.Principal.Value)
	if len(al.Members) > 0 {
		members := make([]pipeline.Principal, len(al.Members))
		for i, m := range al.Members {
			members[i] = pipeline.Principal{Kind: m.Kind, Value: open(m.Value)}
		}
		al.Members = members
	}
	if len(al.Affected.Accounts) > 0 {
		accounts := make([]pipeline.AffectedAccount, len(al.Affected.Accounts))
		for i, c := range al.Affected.Accounts {
			accounts[i] = c
			accounts[i].Name = open(c.Name)
		}
		al.Affected.Accounts = accounts
	}
}

func mapped(list []string, f func(string) string) []string {
	if list == nil {
		return nil
	}
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = f(s)
	}
	return out
}

// openText opens the account tokens ("u_" and base64url) inside s.
func openText(s string, keys *pipeline.PrivacyKeys) string {
	if !strings.Contains(s, "u_") {
		return s
	}
	var b strings.Builder
	for {
		i := strings.Index(s, "u_")
		if i < 0 {
			b.WriteString(s)
			return b.String()
		}
		end := i + 2
		for end < len(s) && isTokenByte(s[end]) {
			end++
		}
		b.WriteString(s[:i])
		if name, ok := keys.Open(s[i:end]); ok {
			b.WriteString(name)
		} else {
			b.WriteString(s[i:end])
		}
		s = s[end:]
	}
}

func isTokenByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}
