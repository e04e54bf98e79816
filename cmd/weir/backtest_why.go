package main

import (
	"net/netip"
	"slices"
	"strings"

	"weir/pipeline"
)

// why says in a line what of the configuration made the difference to an alert:
// the changes that name its detector, its endpoint or its client. One that names
// nothing of it may have done it all the same, through what detection learned
// elsewhere; when there is but one change it did.
func (b *comparison) why(alerts ...*pipeline.Alert) string {
	var named, texts []string
	for i := range b.units {
		u := &b.units[i]
		text := u.text()
		texts = append(texts, text)
		if slices.ContainsFunc(alerts, func(a *pipeline.Alert) bool { return b.names(u, a) }) {
			named = append(named, text)
		}
	}
	switch {
	case len(texts) == 0:
		return "nothing that alerts depend on differs: report this"
	case len(texts) == 1:
		return texts[0]
	case len(named) > 0:
		return strings.Join(named[:min(3, len(named))], "; ")
	}
	return "no change names it; it follows from one of: " + strings.Join(texts[:min(3, len(texts))], "; ")
}

// names reports whether the unit speaks of something that a is about.
func (b *comparison) names(u *unit, a *pipeline.Alert) bool {
	inside := func(prefix string) (string, bool) {
		rest, ok := strings.CutPrefix(u.path, prefix)
		return strings.TrimSuffix(rest, "]"), ok
	}
	if name, ok := inside("detect."); ok {
		// The detectors of a family share their cases.
		return familyOf(name) == familyOf(a.Detector)
	}
	if name, ok := inside("identity.known_clients["); ok {
		return knownNames(b.was.replay, name, a) || knownNames(b.now.replay, name, a)
	}
	if match, ok := inside("endpoints["); ok {
		return endpointNames(b.was.replay.cfg.Endpoints, match, a) || endpointNames(b.now.replay.cfg.Endpoints, match, a)
	}
	return true
}

// knownNames reports whether the known client of that name is whom a is about.
func knownNames(p *replay, name string, a *pipeline.Alert) bool {
	for _, k := range p.cfg.Identity.KnownClients {
		if k.Name != name {
			continue
		}
		who := append([]pipeline.Principal{a.Principal}, a.Members...)
		for _, s := range a.Addresses {
			who = append(who, pipeline.Principal{Kind: pipeline.PrincipalIP, Value: s})
		}
		if slices.ContainsFunc(who, func(w pipeline.Principal) bool {
			switch {
			case k.IP != "":
				return w.Kind == pipeline.PrincipalIP && within(w.Value, k.IP)
			case k.Key != "":
				return w.Kind == pipeline.PrincipalKey && strings.HasPrefix(strings.TrimPrefix(w.Value, "k_"), k.Key)
			}
			return w.Value == p.keys.AccountToken(k.Account)
		}) {
			return true
		}
	}
	return false
}

// within reports whether an address, or a network, lies in another.
func within(value, network string) bool {
	n, err := netip.ParsePrefix(network)
	if err != nil {
		one, err := netip.ParseAddr(network)
		if err != nil {
			return false
		}
		n = netip.PrefixFrom(one, one.BitLen())
	}
	if p, err := netip.ParsePrefix(value); err == nil {
		return n.Overlaps(p)
	}
	ip, err := netip.ParseAddr(value)
	return err == nil && n.Contains(ip)
}

// endpointNames reports whether the rule with that match covers what a is about.
func endpointNames(rules []pipeline.EndpointRule, match string, a *pipeline.Alert) bool {
	for _, r := range rules {
		if r.Match != match {
			continue
		}
		if r.Role == pipeline.RoleLogin && familyOf(a.Detector) == "auth" {
			return true
		}
		only, err := pipeline.NewLoginRules([]pipeline.EndpointRule{r})
		if err != nil {
			continue
		}
		covers := func(method, path string) bool {
			e, ok := only.Endpoint(method, path)
			return ok && e.Configured
		}
		if covers(a.Endpoint.Method, a.Endpoint.Template) || slices.ContainsFunc(a.Exemplars, func(e pipeline.Exemplar) bool { return covers(e.Method, e.Path) }) {
			return true
		}
	}
	return false
}
