package alerts

import (
	"slices"
	"strings"
)

// ocsfSince names the attributes that we write and that came after 1.1.0, with
// their first version, after OCSF's own change log. [] goes into a list.
func ocsfSince() []struct{ version, path string } {
	return []struct{ version, path string }{
		{"1.5.0", "anomaly_analyses"},
		{"1.4.0", "is_alert"},
		{"1.4.0", "action_id"}, // 3, Observed, is of 1.4.0
		{"1.4.0", "action"},
		{"1.4.0", "evidences[].http_request"},
		{"1.4.0", "evidences[].http_response"},
		{"1.2.0", "risk_details"},
		{"1.2.0", "evidences[].src_endpoint.autonomous_system"},
		{"1.2.0", "evidences[].actor.app_uid"},
	}
}

// downlevel moves what version does not know from o into its unmapped, under the
// name of its path; what is emptied by that goes too.
func downlevel(o object, version string) {
	unmapped, _ := o["unmapped"].(object)
	for _, s := range ocsfSince() {
		if version >= s.version {
			continue
		}
		var taken []any
		takeOut(o, s.path, &taken)
		if len(taken) == 0 {
			continue
		}
		name := strings.ReplaceAll(s.path, "[]", "")
		if strings.Contains(s.path, "[]") {
			unmapped[name] = taken
		} else {
			unmapped[name] = taken[0]
		}
	}
	if list, ok := o["evidences"].([]object); ok {
		if list = slices.DeleteFunc(list, func(e object) bool { return len(e) == 0 }); len(list) > 0 {
			o["evidences"] = list
		} else {
			delete(o, "evidences")
		}
	}
}

// takeOut removes what path names below o and appends it to taken.
func takeOut(o object, path string, taken *[]any) {
	name, rest, more := strings.Cut(path, ".")
	name, list := strings.CutSuffix(name, "[]")
	v, ok := o[name]
	switch {
	case !ok:
	case !more:
		*taken = append(*taken, v)
		delete(o, name)
	case list:
		items, _ := v.([]object)
		for _, item := range items {
			takeOut(item, rest, taken)
		}
	default:
		inner, _ := v.(object)
		if takeOut(inner, rest, taken); len(inner) == 0 {
			delete(o, name)
		}
	}
}
