package main

import (
	"fmt"
	"strings"

	"weir/pipeline"
)

// resolveMatch makes tokens of the names in m, as the log and alerts have them, and
// of a known client what it is known by. The error begins with the member.
func resolveMatch(m *pipeline.SuppressionMatch, cfg *config, keys *pipeline.PrivacyKeys) error {
	token := func(kind pipeline.PrincipalKind, value string) string {
		if value == "" {
			return ""
		}
		if _, ok := keys.Open(value); ok || kind == pipeline.PrincipalSession && strings.HasPrefix(value, "s_") || kind == pipeline.PrincipalKey && strings.HasPrefix(value, "k_") {
			return value
		}
		return tokenFor(keys, cfg.Identity.APIKeyPrefix, kind, value)
	}
	if p := m.Principal; p != nil {
		m.Principal = &pipeline.Principal{Kind: p.Kind, Value: token(p.Kind, p.Value)}
	}
	m.Account, m.Key = token(pipeline.PrincipalAccount, m.Account), token(pipeline.PrincipalKey, m.Key)
	if m.Client == "" {
		return nil
	}
	for _, k := range cfg.Identity.KnownClients {
		if k.Name != m.Client {
			continue
		}
		switch {
		case k.IP != "" && m.Address != "", k.Account != "" && m.Account != "":
			return fmt.Errorf("client: %q is known by what the match asks for, too; give one of them", m.Client)
		case k.IP != "":
			m.Address = k.IP
		case k.Account != "":
			m.Account = token(pipeline.PrincipalAccount, k.Account)
		default:
			m.KeyBegins = "k_" + k.Key
		}
		return nil
	}
	return fmt.Errorf("client: identity.known_clients has no %q", m.Client)
}
