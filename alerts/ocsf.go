package alerts

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"weir/pipeline"
)

// OCSF's Detection Finding, class 2004: https://schema.ocsf.io/1.8.0/classes/detection_finding
//
//	{"class_uid":2004,"type_uid":200401,"severity_id":4,"finding_info":{"uid":"7f3c9a…"},"evidences":[…],"anomaly_analyses":[…],…}

// OCSFVersions are the versions that findings can be written in, the newest
// first. What a version does not know yet moves into unmapped.
func OCSFVersions() []string { return []string{"1.8.0", "1.5.0", "1.3.0", "1.1.0"} }

// AppendOCSF appends a as a Detection Finding of version; "" is the newest.
func AppendOCSF(dst []byte, a *pipeline.Alert, version string) []byte {
	return appendObject(dst, ocsf(a, version))
}

func ocsf(a *pipeline.Alert, version string) object {
	if version == "" {
		version = OCSFVersions()[0]
	}
	sev, status := severityOf(a.Severity), statusOf(a)
	activity, word := 2, "Update"
	switch {
	case a.Status == "resolved":
		activity, word = 3, "Close"
	case a.Revision <= 1:
		activity, word = 1, "Create"
	}
	o := object{
		"activity_id": activity, "activity_name": word, "category_uid": 2, "category_name": "Findings",
		"class_uid": 2004, "class_name": "Detection Finding", "type_uid": 200400 + activity, "type_name": "Detection Finding: " + word,
		"severity_id": sev.ocsf, "severity": sev.caption, "status_id": status.ocsf, "status": status.caption,
		"is_alert": a.Tier != "context", "risk_level_id": sev.risk, "risk_level": sev.riskWord, "risk_score": sev.ecs,
		"action_id": 3, "action": "Observed", "disposition_id": 15, "disposition": "Detected",
		"time": max(int64(changedAt(a))/1000, 0), "timezone_offset": 0, "count": a.Outcome.Requests,
		"metadata": ocsfMetadata(a, version), "finding_info": ocsfInfo(a), "unmapped": ocsfUnmapped(a),
	}
	o["confidence_id"], o["confidence"] = confidence(a)
	o.put("message", a.Title)
	o.put("status_detail", a.Change.Text)
	o.put("risk_details", odds(a))
	o.putMillis("start_time", a.Window.First)
	o.putMillis("end_time", a.Window.Last)
	o.put("attacks", ocsfAttacks(a))
	o.put("evidences", ocsfEvidences(a))
	o.put("anomaly_analyses", ocsfAnomalies(a))
	o.put("enrichments", ocsfEnrichments(a))
	o.put("observables", ocsfObservables(a, version))
	if len(a.Next) > 0 {
		o["remediation"] = object{"desc": strings.Join(a.Next, "\n")}
	}
	if v, ok := verdictOf(a); ok && version >= "1.4.0" {
		o["verdict_id"], o["verdict"] = v.ocsf, v.caption
	} else if ok {
		o["unmapped"].(object)["verdict"] = v.word
	}
	downlevel(o, version)
	return o
}

// confidence is how far the evidence goes: pages, is worth a review, or less.
func confidence(a *pipeline.Alert) (int, string) {
	switch {
	case a.Score.Nats >= a.Score.PageAt:
		return 3, "High"
	case a.Score.Nats >= a.Score.ReviewAt:
		return 2, "Medium"
	}
	return 1, "Low"
}

func ocsfMetadata(a *pipeline.Alert, version string) object {
	m := object{
		"version": version, "uid": revisionOf(a), "sequence": a.Revision, "log_name": a.Schema,
		"product": object{"name": "weir", "vendor_name": "weir", "version": a.Versions.Weir},
	}
	profiles := []string{"security_control"}
	if _, ok := verdictOf(a); ok && version >= "1.4.0" {
		profiles = append(profiles, "incident")
	}
	m["profiles"] = profiles
	m.put("correlation_uid", a.Campaign)
	m.put("labels", labelList(a.Labels))
	return m
}

// labelList is the labels that say something as name=value, sorted.
func labelList(l pipeline.AlertLabels) []string {
	var out []string
	for _, k := range sortedKeys(l) {
		if l[k] != "" {
			out = append(out, k+"="+l[k])
		}
	}
	return out
}

func ocsfInfo(a *pipeline.Alert) object {
	f := object{
		"uid": a.ID,
		"analytic": object{
			"uid": a.Detector, "name": detectorName(a.Detector), "category": family(a.Detector), "type_id": 3, "type": "Statistical",
			"version": a.Versions.Weir,
		},
	}
	f.put("title", a.Title)
	f.put("desc", a.Reason)
	f.put("types", []string{detectorName(a.Detector)})
	f.put("src_url", link(a))
	f.put("attacks", ocsfAttacks(a))
	f.putMillis("created_time", a.Window.DetectedAt)
	f.putMillis("modified_time", changedAt(a))
	f.putMillis("first_seen_time", a.Window.First)
	f.putMillis("last_seen_time", a.Window.Last)
	if a.Campaign != "" {
		f["related_events"] = []object{{"uid": a.Campaign, "type": "campaign"}}
	}
	return f
}

func ocsfAttacks(a *pipeline.Alert) []object {
	var out []object
	for _, id := range a.Attack {
		t, parent := techniqueOf(id)
		at := object{"version": attackVersion}
		if t.tacticID != "" {
			at["tactic"] = object{"uid": t.tacticID, "name": t.tactic}
		}
		if parent != nil {
			at["sub_technique"] = object{"uid": t.id, "name": t.name}
			t = *parent
		}
		at["technique"] = object{"uid": t.id, "name": t.name}
		out = append(out, at)
	}
	return out
}

// ocsfEvidences is one entry for each exemplar; without any, one for the client.
func ocsfEvidences(a *pipeline.Alert) []object {
	var out []object
	for i := range a.Exemplars {
		x := &a.Exemplars[i]
		e := object{"api": object{"operation": exemplarOperation(x)}}
		e.put("src_endpoint", ocsfEndpoint(a, x.IP))
		e.put("actor", ocsfActor(a))
		url := object{"path": "/" + strings.TrimPrefix(x.Path, "/")}
		url.put("hostname", a.Endpoint.Host)
		req := object{"http_method": x.Method, "url": url}
		req.put("user_agent", x.Agent)
		e["http_request"] = req
		if x.Status > 0 {
			resp := object{"code": x.Status}
			resp.putNumber("length", x.Bytes)
			e["http_response"] = resp
		}
		out = append(out, e)
	}
	if len(out) > 0 {
		return out
	}
	e := object{}
	s, _ := sourceOf(a)
	e.put("src_endpoint", ocsfEndpoint(a, s))
	e.put("actor", ocsfActor(a))
	if op := operation(a.Endpoint); op != "" {
		e["api"] = object{"operation": op}
	}
	if len(e) == 0 {
		return nil
	}
	return []object{e}
}

func exemplarOperation(x *pipeline.Exemplar) string {
	path, _, _ := strings.Cut(x.Path, "?")
	return strings.TrimSpace(x.Method + " " + path)
}

// ocsfEndpoint is where a request comes from; what is known of the client's
// network stands with its own address alone.
func ocsfEndpoint(a *pipeline.Alert, address string) object {
	if address == "" {
		return nil
	}
	e := object{"name": address}
	if ip, ok := ipOf(address); ok {
		e = object{"ip": ip.String()}
	}
	if a.AddressesTotal <= 1 {
		if n, ok := asNumber(a.Context.ASN); ok {
			e["autonomous_system"] = object{"number": n}
		}
		if a.Context.Country != "" {
			e["location"] = object{"country": a.Context.Country}
		}
	}
	return e
}

func ocsfActor(a *pipeline.Alert) object {
	v := a.Principal.Value
	switch a.Principal.Kind {
	case pipeline.PrincipalAccount, pipeline.PrincipalSubject:
		return object{"user": object{"uid": v, "name": v}}
	case pipeline.PrincipalSession:
		return object{"session": object{"uid": v}}
	case pipeline.PrincipalKey:
		return object{"app_uid": v}
	}
	return nil
}

// ocsfAnomalies is the evidence: what was seen beside what was expected.
func ocsfAnomalies(a *pipeline.Alert) []object {
	if len(a.Signals) == 0 {
		return nil
	}
	target := object{"name": a.Principal.Value}
	if a.Principal.Value == "" {
		target["name"] = a.Level
	}
	target.put("type", a.Principal.Kind.String())
	var seen, usual []object
	for _, s := range a.Signals {
		at := object{"value": decimal(s.Observed), "count": s.Count}
		span := object{}
		span.putMillis("start_time", a.Window.First)
		span.putMillis("end_time", a.Window.Last)
		at.put("timespan", span)
		seen = append(seen, object{
			"observation_parameter": s.Name, "observation_type": "count", "observations": []object{at},
			"observed_pattern": "adds " + decimal(s.Nats) + " of " + decimal(a.Score.Nats) + " nats",
		})
		base := object{"observation_parameter": s.Name, "observation_type": "count", "observations": []object{{"value": decimal(s.Expected)}}}
		base.put("observed_pattern", baselineWords(s.Baseline))
		usual = append(usual, base)
	}
	return []object{{"analysis_targets": []object{target}, "anomalies": seen, "baselines": usual}}
}

func baselineWords(b pipeline.Baseline) string {
	if b.Kind == "" || b.N == 0 {
		return b.Kind
	}
	return fmt.Sprintf("%s of %d", b.Kind, b.N)
}

func decimal(x float64) string { return strconv.FormatFloat(finite(x), 'f', -1, 64) }

// ocsfEnrichments tells what is known of the client's address.
func ocsfEnrichments(a *pipeline.Alert) []object {
	data := object{}
	data.put("asn", a.Context.ASN)
	data.put("country", a.Context.Country)
	data.put("network", a.Context.Network)
	if a.Context.People != nil {
		data["people"] = *a.Context.People
	}
	s, _ := sourceOf(a)
	if s == "" || len(data) == 0 {
		return nil
	}
	return []object{{"name": "src_endpoint.ip", "value": s, "type": "network", "provider": "weir", "data": data}}
}

func ocsfObservables(a *pipeline.Alert, version string) []object {
	var out []object
	add := func(name string, id int, caption, value string) {
		if value == "" {
			return
		}
		if version < "1.2.0" && id > 10 && id < 20 {
			id, caption = 99, "Other"
		}
		o := object{"name": name, "type_id": id, "type": caption, "value": value}
		if !slices.ContainsFunc(out, func(x object) bool { return x["type_id"] == id && x["value"] == value }) {
			out = append(out, o)
		}
	}
	address := func(name, s string) {
		if ip, ok := ipOf(s); ok {
			add(name, 2, "IP Address", ip.String())
		} else if strings.Contains(s, "/") {
			add(name, 12, "Subnet", s)
		}
	}
	for i := range a.Exemplars {
		address(fmt.Sprintf("evidences[%d].src_endpoint.ip", i), a.Exemplars[i].IP)
	}
	for _, s := range a.Addresses {
		address("addresses", s)
	}
	for _, m := range a.Members {
		if m.Kind == pipeline.PrincipalIP {
			address("members", m.Value)
		}
	}
	add("actor.user.name", 4, "User Name", userOf(a))
	for _, c := range a.Affected.Accounts {
		add("affected.accounts", 4, "User Name", c.Name)
	}
	for _, s := range a.Context.Agents {
		add("http_request.user_agent", 16, "HTTP User-Agent", s)
	}
	add("endpoint.host", 1, "Hostname", a.Endpoint.Host)
	return out
}

// ocsfUnmapped is what the class has no place for, in the words of weir.alert/1.
func ocsfUnmapped(a *pipeline.Alert) object {
	u := object{
		"tier": a.Tier, "change": a.Change.Kind, "level": a.Level, "principal": a.Principal, "ongoing": a.Ongoing,
		"rate_5m": a.Rate5m, "score_nats": finite(a.Score.Nats), "odds_one_in": finite(a.Score.Odds.OneIn),
		"outcome": a.Outcome, "addresses_total": a.AddressesTotal, "members_total": a.MembersTotal,
		"affected": object{"accounts": full(a.Affected.Accounts), "objects": full(a.Affected.Objects), "truncated": a.Affected.Truncated},
		"quality":  object{"identity": a.Quality.Identity, "sampled": finite(a.Quality.Sampled), "late": a.Quality.Late, "lost": a.Quality.Lost},
		"config":   a.Versions.Config, "edition": a.Versions.Edition,
	}
	if a.Endpoint != (pipeline.Endpoint{}) {
		u["endpoint"] = a.Endpoint
	}
	if a.Estimate != nil {
		u["estimate"] = *a.Estimate
	}
	u.put("predicate", a.Predicate)
	u.put("would_not_fire_if", a.WouldNotFireIf)
	u.put("benign_if", a.BenignIf)
	u.put("owasp_api", a.OWASP)
	u.put("oat", a.OAT)
	u.put("ja4", a.Context.JA4)
	return u
}
