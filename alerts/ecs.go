package alerts

import (
	"cmp"
	"slices"
	"strings"

	"weir/pipeline"
)

// The Elastic Common Schema: https://www.elastic.co/docs/reference/ecs
//
//	{"@timestamp":"2026-11-22T04:00:00Z","event":{"kind":"alert","severity":73,…},"rule":{…},"source":{…},"weir":{…}}
//
// event.kind is alert: signal is Elastic's own. event.severity is what Elastic's
// rule External Alerts maps (21 low, 47 medium, 73 high, 99 critical), and message
// is the title that it shows.

// ecsVersion is the version of ECS whose names are used.
const ecsVersion = "9.4.0"

// ecsKeyword is the longest keyword that Elastic indexes.
const ecsKeyword = 1024

// AppendECS appends a as an ECS document. Our own fields are below weir. The sink
// adds event.ingested, which is no part of the alert.
func AppendECS(dst []byte, a *pipeline.Alert) []byte { return appendObject(dst, ecs(a)) }

func ecs(a *pipeline.Alert) object {
	o := object{
		"@timestamp": cmp.Or(stamp(changedAt(a)), "1970-01-01T00:00:00Z"), "ecs": object{"version": ecsVersion}, "event": ecsEvent(a), "rule": ecsRule(a),
		"observer":    object{"vendor": "weir", "product": "weir", "type": "api-security", "version": a.Versions.Weir},
		"data_stream": object{"type": "logs", "dataset": "weir.alert", "namespace": "default"},
		"weir":        ecsOwn(a),
	}
	o.put("message", a.Title)
	o.put("threat", ecsThreat(a))
	client := ecsClient(a)
	o.put("source", client)
	o.put("client", client)
	o.put("related", ecsRelated(a))
	o.put("tags", []string{a.Tier})
	if user := userOf(a); user != "" {
		o["user"] = object{"id": cut(user, ecsKeyword), "name": cut(user, ecsKeyword)}
	}
	url := object{}
	url.put("path", a.Endpoint.Template)
	url.put("domain", cut(a.Endpoint.Host, ecsKeyword))
	o.put("url", url)
	http := object{}
	if a.Endpoint.Method != "" {
		http["request"] = object{"method": a.Endpoint.Method}
	}
	if n := len(a.Exemplars); n > 0 && a.Exemplars[n-1].Status > 0 {
		http["response"] = object{"status_code": a.Exemplars[n-1].Status}
	}
	o.put("http", http)
	if len(a.Context.Agents) > 0 {
		o["user_agent"] = object{"original": cut(a.Context.Agents[0], ecsKeyword)}
	}
	service := object{}
	service.put("name", a.Labels["service"])
	service.put("environment", a.Labels["env"])
	o.put("service", service)
	labels := object{}
	for _, k := range sortedKeys(a.Labels) {
		// A dot would make an object of a label.
		labels.put(strings.ReplaceAll(k, ".", "_"), cut(a.Labels[k], ecsKeyword))
	}
	labels.put("campaign_id", a.Campaign)
	o.put("labels", labels)
	return o
}

func ecsEvent(a *pipeline.Alert) object {
	sev := severityOf(a.Severity)
	e := object{
		"kind": "alert", "category": ecsCategories(a.Detector), "type": []string{"info"}, "id": a.ID, "code": a.Detector,
		"provider": "weir", "module": "weir", "dataset": "weir.alert", "severity": sev.ecs, "risk_score": float64(sev.ecs),
		"sequence": a.Revision, "outcome": "unknown",
	}
	if n := a.Outcome.Succeeded; n != nil {
		if e["outcome"] = "failure"; *n > 0 {
			e["outcome"] = "success"
		}
	}
	e.put("action", a.Change.Kind)
	e.put("reason", cut(a.Reason, ecsKeyword))
	e.put("url", link(a))
	e.putStamp("start", a.Window.First)
	e.putStamp("end", a.Window.Last)
	e.putStamp("created", a.Window.DetectedAt)
	return e
}

func ecsCategories(detector string) []string {
	c := []string{"intrusion_detection", "web"}
	switch family(detector) {
	case "auth":
		c = append(c, "authentication")
	case "key":
		c = append(c, "api")
	case "health":
		c = c[1:]
	}
	return c
}

func ecsRule(a *pipeline.Alert) object {
	return object{"id": a.Detector, "name": detectorName(a.Detector), "category": family(a.Detector), "ruleset": "weir", "version": a.Versions.Weir}
}

func ecsThreat(a *pipeline.Alert) object {
	var tactics, tacticIDs, names, ids, subNames, subIDs []string
	add := func(list *[]string, s string) {
		if s != "" && !slices.Contains(*list, s) {
			*list = append(*list, s)
		}
	}
	for _, id := range a.Attack {
		t, parent := techniqueOf(id)
		add(&tactics, t.tactic)
		add(&tacticIDs, t.tacticID)
		if parent != nil {
			add(&subNames, t.name)
			add(&subIDs, t.id)
			t = *parent
		}
		add(&names, t.name)
		add(&ids, t.id)
	}
	if len(ids) == 0 {
		return nil
	}
	technique := object{"id": ids, "name": names}
	if len(subIDs) > 0 {
		technique["subtechnique"] = object{"id": subIDs, "name": subNames}
	}
	t := object{"framework": "MITRE ATT&CK", "technique": technique}
	if len(tacticIDs) > 0 {
		t["tactic"] = object{"id": tacticIDs, "name": tactics}
	}
	return t
}

// ecsClient is the one address behind a, with what is known of its network.
func ecsClient(a *pipeline.Alert) object {
	s, _ := sourceOf(a)
	if s == "" {
		return nil
	}
	o := object{"address": cut(s, ecsKeyword)}
	if ip, ok := ipOf(s); ok {
		o["ip"] = ip.String()
	}
	if n, ok := asNumber(a.Context.ASN); ok {
		o["as"] = object{"number": n}
	}
	if a.Context.Country != "" {
		o["geo"] = object{"country_iso_code": a.Context.Country}
	}
	return o
}

func ecsRelated(a *pipeline.Alert) object {
	var ips, users []string
	ip := func(s string) {
		if x, ok := ipOf(s); ok && !slices.Contains(ips, x.String()) {
			ips = append(ips, x.String())
		}
	}
	user := func(s string) {
		if s = cut(s, ecsKeyword); s != "" && !slices.Contains(users, s) {
			users = append(users, s)
		}
	}
	s, _ := sourceOf(a)
	ip(s)
	for _, s := range a.Addresses {
		ip(s)
	}
	user(userOf(a))
	for _, m := range a.Members {
		switch m.Kind {
		case pipeline.PrincipalIP:
			ip(m.Value)
		case pipeline.PrincipalAccount, pipeline.PrincipalSubject:
			user(m.Value)
		}
	}
	for _, c := range a.Affected.Accounts {
		user(c.Name)
	}
	r := object{}
	r.put("ip", ips)
	r.put("user", users)
	if a.Endpoint.Host != "" {
		r["hosts"] = []string{cut(a.Endpoint.Host, ecsKeyword)}
	}
	return r
}

// ecsOwn is what ECS has no name for.
func ecsOwn(a *pipeline.Alert) object {
	score := object{
		"nats": finite(a.Score.Nats), "page_at": finite(a.Score.PageAt), "review_at": finite(a.Score.ReviewAt),
		"odds_one_in": finite(a.Score.Odds.OneIn), "odds_unit": a.Score.Odds.Unit, "odds_basis": a.Score.Odds.Basis,
	}
	o := object{
		"revision": a.Revision, "status": statusOf(a).word, "tier": a.Tier, "level": a.Level, "ongoing": a.Ongoing, "rate_5m": a.Rate5m,
		"change": object{"kind": a.Change.Kind, "text": a.Change.Text}, "principal": a.Principal, "score": score, "outcome": a.Outcome,
		"addresses_total": a.AddressesTotal, "members_total": a.MembersTotal,
		"affected": object{"accounts": full(a.Affected.Accounts), "objects": full(a.Affected.Objects), "truncated": a.Affected.Truncated},
		"quality":  object{"identity": a.Quality.Identity, "sampled": finite(a.Quality.Sampled), "late": a.Quality.Late, "lost": a.Quality.Lost},
		"versions": object{"weir": a.Versions.Weir, "config": a.Versions.Config, "edition": a.Versions.Edition},
	}
	o.putStamp("onset", a.Window.Onset)
	if v, ok := verdictOf(a); ok {
		o["verdict"] = v.word
	}
	if a.Estimate != nil {
		o["estimate"] = *a.Estimate
	}
	o.put("predicate", a.Predicate)
	o.put("next", a.Next)
	o.put("benign_if", a.BenignIf)
	o.put("would_not_fire_if", a.WouldNotFireIf)
	o.put("owasp_api", a.OWASP)
	o.put("oat", a.OAT)
	o.put("agents", a.Context.Agents)
	o.put("ja4", a.Context.JA4)
	o.put("network", a.Context.Network)
	if a.Context.People != nil {
		o["people"] = *a.Context.People
	}
	o.put("explanation", explanation(a))
	return o
}

// explanation is the evidence line by line.
func explanation(a *pipeline.Alert) []object {
	var out []object
	for _, s := range a.Signals {
		out = append(out, object{
			"signal": s.Name, "observed": finite(s.Observed), "expected": finite(s.Expected), "count": s.Count, "nats": finite(s.Nats),
			"baseline": s.Baseline.Kind, "baseline_n": s.Baseline.N,
		})
	}
	return out
}
