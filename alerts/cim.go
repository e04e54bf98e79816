package alerts

import (
	"encoding/json"
	"strings"

	"weir/pipeline"
)

// AppendCIM appends a as an object with its CIM names, and itself below native, as
// the sink for Splunk has it in an event.
func AppendCIM(dst []byte, a *pipeline.Alert) []byte {
	o := cim(a)
	o[string(FormatNative)] = json.RawMessage(AppendJSON(nil, a))
	return appendObject(dst, o)
}

// cim is a in the names of Splunk's Common Information Model, data model Alerts,
// which searches and dashboards there know. It stands beside the alert itself.
func cim(a *pipeline.Alert) object {
	sev := severityOf(a.Severity)
	o := object{
		"app": "weir", "id": a.ID, "type": "alert", "severity": sev.cim, "severity_id": sev.ocsf, "signature": detectorName(a.Detector),
		"signature_id": a.Detector, "subject": a.Title, "description": a.Reason, "vendor_product": "weir", "status": statusOf(a).splunk,
	}
	s, _ := sourceOf(a)
	o.put("src", s)
	o.put("user", userOf(a))
	o.put("dest", a.Endpoint.Host)
	o.put("http_method", a.Endpoint.Method)
	o.put("url", a.Endpoint.Template)
	o.put("vendor_account", a.Labels["service"])
	if len(a.Context.Agents) > 0 {
		o["http_user_agent"] = a.Context.Agents[0]
	}
	if len(a.Attack) > 0 {
		o["mitre_technique_id"] = a.Attack
	}
	if v, ok := verdictOf(a); ok {
		o["disposition"] = v.splunk
	}
	if len(a.Next) > 0 {
		o["next"] = strings.Join(a.Next, "; ")
	}
	return o
}
