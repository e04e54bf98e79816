package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"weir/console"
	"weir/detectors"
	"weir/pipeline"
	"weir/storage"
)

// resolveMatch makes tokens of the names in m, as the log and alerts have them, and
// of a known client what it is known by. The error begins with the member.
func resolveMatch(m *pipeline.SuppressionMatch, cfg *config, keys *pipeline.PrivacyKeys) error {
	if err := resolveClient(m, cfg); err != nil {
		return err
	}
	token := func(kind pipeline.PrincipalKind, value string) string {
		_, known := keys.Open(value)
		if value == "" || known || kind == pipeline.PrincipalSession && strings.HasPrefix(value, "s_") || kind == pipeline.PrincipalKey && strings.HasPrefix(value, "k_") {
			return value
		}
		return tokenFor(keys, cfg.Identity.APIKeyPrefix, kind, value)
	}
	if p := m.Principal; p != nil {
		m.Principal = &pipeline.Principal{Kind: p.Kind, Value: token(p.Kind, p.Value)}
	}
	m.Account, m.Key = token(pipeline.PrincipalAccount, m.Account), token(pipeline.PrincipalKey, m.Key)
	return nil
}

// resolveClient puts what a known client is known by into m.
func resolveClient(m *pipeline.SuppressionMatch, cfg *config) error {
	if m.Client == "" {
		return nil
	}
	for _, k := range cfg.Identity.KnownClients {
		switch {
		case k.Name != m.Client:
			continue
		case k.IP != "" && m.Address != "", k.Account != "" && m.Account != "":
			return fmt.Errorf("client: %q is known by what the match asks for, too; give one of them", m.Client)
		case k.IP != "":
			m.Address = k.IP
		case k.Account != "":
			m.Account = k.Account
		default:
			m.KeyBegins = "k_" + k.Key
		}
		return nil
	}
	return fmt.Errorf("client: identity.known_clients has no %q", m.Client)
}

// configured are the suppressions of the configuration, which was validated.
func (c *config) configured(keys *pipeline.PrivacyKeys) ([]pipeline.Suppression, error) {
	list, errs := c.Alerts.Configured(func(m *pipeline.SuppressionMatch) error { return resolveMatch(m, c, keys) })
	return list, errors.Join(errs...)
}

// newConfiguredEngine is an engine for files: with the suppressions of the
// configuration from the beginning.
func newConfiguredEngine(cfg *config, edition *pipeline.Edition, keys *pipeline.PrivacyKeys, labels map[string]map[string]string, workers int, trace func(detectors.Traced)) (*engine, error) {
	e, err := newTracedEngine(cfg, edition, keys, labels, workers, trace)
	if err != nil {
		return nil, err
	}
	list, err := cfg.configured(keys)
	for _, s := range list {
		e.suppress(s)
	}
	return e, err
}

// publishSuppressions puts what changed about the suppressions of a configuration
// at the end of the log: those that are new, and the end of those that are gone.
func (s *service) publishSuppressions(ctx context.Context, c *config) error {
	want, err := c.configured(s.keys)
	if err != nil {
		return err
	}
	now := timeOf(time.Now())
	have, err := s.db.SuppressionsFrom(ctx, 0)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for i := range have {
		if have[i].Source == "config" && have[i].Ended == nil { // one that comes back begins anew
			known[have[i].ID] = true
		}
	}
	put := func(x pipeline.Suppression, action string) error {
		entry, err := auditEntry(console.AuditEntry{
			Time: now, Action: action, Outcome: "success", Who: console.AuditWho{Kind: "service", Name: "weir " + version},
			Where: console.AuditWhere{Interface: "service"}, Target: &console.AuditTarget{Kind: "suppression", IDs: []string{x.ID}}, Reason: x.Reason,
		})
		if err != nil {
			return err
		}
		s.log.Info(action, zap.String("id", x.ID), zap.String("reason", x.Reason))
		return s.db.PutSuppression(ctx, x, entry)
	}
	for _, x := range want {
		if known[x.ID] {
			delete(known, x.ID)
			continue
		}
		// Also one that is over: history is read under it.
		if err := put(x, "suppression.create"); err != nil {
			return err
		}
	}
	for i := range have {
		if x := have[i].Suppression; known[x.ID] && x.End() > now {
			x.Ended = &now
			if err := put(x, "suppression.end"); err != nil {
				return err
			}
		}
	}
	return nil
}

// unlearned says which requests are no example of what is usual: what a suppression
// covered, and what people confirmed as an attack. Nil is none.
type unlearned struct {
	silences  *pipeline.Silences
	templates *pipeline.Templates
	confirmed map[uint64][]storage.TruePositive // by the principal's hash
}

func newUnlearned(list []pipeline.Suppression, confirmed []storage.TruePositive, labels map[string]map[string]string, templates *pipeline.Templates) *unlearned {
	if len(list) == 0 && len(confirmed) == 0 {
		return nil
	}
	u := &unlearned{silences: pipeline.NewSilences(labels, nil), templates: templates, confirmed: map[uint64][]storage.TruePositive{}}
	for _, s := range list {
		u.silences.Put(s)
	}
	for _, v := range confirmed {
		u.confirmed[v.Who.Hash()] = append(u.confirmed[v.Who.Hash()], v)
	}
	return u
}

// skips reports whether nothing is learned from r, which is of b.
func (u *unlearned) skips(r *pipeline.Request, b *pipeline.Block) bool {
	if u == nil {
		return false
	}
	for _, owner := range [...]uint64{r.Owner, r.Address.Owner()} {
		for _, v := range u.confirmed[owner] {
			if r.Time >= v.First && r.Time <= v.Last {
				return true
			}
		}
	}
	return u.silences.Unlearned(&pipeline.Ordered{Request: r, Block: b}, u.template)
}

func (u *unlearned) template(r *pipeline.Request) string {
	return detectors.EndpointText(u.templates, r)
}

// unlearnedFiles is unlearned for files: what the configuration says.
func (c *config) unlearnedFiles(keys *pipeline.PrivacyKeys, labels map[string]map[string]string) (*unlearned, error) {
	list, err := c.configured(keys)
	return newUnlearned(list, nil, labels, pipeline.ColdTemplates()), err
}

// unlearnedFleet is unlearned for what a fleet's sequence and people brought; labels are those of
// its sources.
func (f *fleet) unlearnedFleet(ctx context.Context, labels map[string]map[string]string, templates *pipeline.Templates) (*unlearned, error) {
	list, err := f.suppressions(ctx)
	if err != nil {
		return nil, err
	}
	confirmed, err := f.confirmed(ctx)
	return newUnlearned(list, confirmed, labels, templates), err
}

// unlearnedStored is unlearned for the requests in the store from a time on.
func (s *service) unlearnedStored(ctx context.Context, from pipeline.Time, before *pipeline.Edition) (*unlearned, error) {
	stored, err := s.db.SuppressionsFrom(ctx, from)
	if err != nil {
		return nil, err
	}
	list := make([]pipeline.Suppression, len(stored))
	for i := range stored {
		list[i] = stored[i].Suppression
	}
	confirmed, err := s.db.TruePositives(ctx, from)
	if err != nil {
		return nil, err
	}
	templates := pipeline.ColdTemplates()
	if before != nil {
		templates = before.Templates
	}
	return newUnlearned(list, confirmed, s.labels, templates), nil
}
