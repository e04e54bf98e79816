package alerts

import (
	"cmp"
	"strings"

	"weir/pipeline"
)

// severityWords is one severity as each outside system says it.
type severityWords struct {
	word      string // ours, and Splunk's CIM
	ocsf      int    // severity_id
	caption   string // of severity_id
	risk      int    // OCSF risk_level_id
	riskWord  string // its caption
	ecs       int64  // event.severity, as Elastic's promotion rule reads it; risk_score too
	cef       int    // 0 to 10
	cim       string
	syslog    int // RFC 5424
	pagerDuty string
}

// severityTable is the crosswalk of severities, from mild to grave. Elastic
// knows nothing below low.
func severityTable() [5]severityWords {
	return [5]severityWords{
		{"info", 1, "Informational", 0, "Info", 21, 1, "informational", 6, "info"},
		{"low", 2, "Low", 1, "Low", 21, 3, "low", 5, "info"},
		{"medium", 3, "Medium", 2, "Medium", 47, 6, "medium", 4, "warning"},
		{"high", 4, "High", 3, "High", 73, 8, "high", 3, "error"},
		{"critical", 5, "Critical", 4, "Critical", 99, 10, "critical", 2, "critical"},
	}
}

// severityOf returns the row of a severity; an unknown word is medium.
func severityOf(word string) severityWords {
	t := severityTable()
	for _, w := range t {
		if w.word == word {
			return w
		}
	}
	return t[2]
}

// statusWords is what became of an incident, as each outside system says it.
type statusWords struct {
	word    string // of triage, or of the alert itself
	ocsf    int    // status_id
	caption string
	elastic string // workflow status
	splunk  string // of a notable event
}

func statusTable() []statusWords {
	return []statusWords{
		{"open", 1, "New", "open", "New"},
		{"in_progress", 2, "In Progress", "acknowledged", "In Progress"},
		{"suppressed", 3, "Suppressed", "closed", "Pending"},
		{"resolved", 4, "Resolved", "closed", "Resolved"},
	}
}

// statusOf is the status of a: triage has the last word, but an incident that is
// over is resolved. One that no sink gets and nobody took up is suppressed.
func statusOf(a *pipeline.Alert) statusWords {
	word, _ := a.Envelope.Triage["status"].(string)
	if word == "" && Silent(a) {
		word = "suppressed"
	}
	if a.Status == "resolved" {
		word = "resolved"
	}
	t := statusTable()
	for _, w := range t {
		if w.word == word {
			return w
		}
	}
	return t[0]
}

// verdictWords is an analyst's verdict as each outside system says it.
type verdictWords struct {
	word     string // of triage
	ocsf     int    // verdict_id
	caption  string
	sentinel string // classification:reason
	splunk   string // disposition of a notable event
	elastic  string // close_reason
}

func verdictTable() []verdictWords {
	return []verdictWords{
		{"true_positive", 2, "True Positive", "TruePositive:SuspiciousActivity", "disposition:1", "true_positive"},
		{"benign_positive", 5, "Benign", "BenignPositive:SuspiciousButExpected", "disposition:2", "benign_positive"},
		{"false_positive", 1, "False Positive", "FalsePositive:IncorrectAlertLogic", "disposition:3", "false_positive"},
		{"false_positive_data", 1, "False Positive", "FalsePositive:InaccurateData", "disposition:4", "false_positive"},
		{"duplicate", 10, "Duplicate", "Undetermined", "disposition:5", "duplicate"},
		{"undetermined", 7, "Insufficient Data", "Undetermined", "disposition:6", "other"},
		{"test", 6, "Test", "Undetermined", "disposition:6", "other"},
	}
}

// verdictOf is the verdict that triage gave a; ok is false without one.
func verdictOf(a *pipeline.Alert) (v verdictWords, ok bool) {
	word, _ := a.Envelope.Triage["verdict"].(string)
	switch word {
	case "benign":
		word = "benign_positive"
	case "false_positive_logic":
		word = "false_positive"
	}
	for _, w := range verdictTable() {
		if w.word == word {
			return w, true
		}
	}
	return verdictWords{}, false
}

// attackVersion is the release of MITRE ATT&CK Enterprise that techniques has
// its names and tactics from.
const attackVersion = "16.1"

// technique is one of MITRE ATT&CK, with the tactic that it serves here.
type technique struct {
	id, name         string
	tactic, tacticID string
}

// techniques lists those that detectors name, and their parents.
func techniques() []technique {
	return []technique{
		{"T1078", "Valid Accounts", "Initial Access", "TA0001"},
		{"T1087", "Account Discovery", "Discovery", "TA0007"},
		{"T1110", "Brute Force", "Credential Access", "TA0006"},
		{"T1110.001", "Password Guessing", "Credential Access", "TA0006"},
		{"T1110.003", "Password Spraying", "Credential Access", "TA0006"},
		{"T1110.004", "Credential Stuffing", "Credential Access", "TA0006"},
		{"T1119", "Automated Collection", "Collection", "TA0009"},
		{"T1190", "Exploit Public-Facing Application", "Initial Access", "TA0001"},
		{"T1213", "Data from Information Repositories", "Collection", "TA0009"},
		{"T1499", "Endpoint Denial of Service", "Impact", "TA0040"},
		{"T1499.002", "Service Exhaustion Flood", "Impact", "TA0040"},
		{"T1499.003", "Application Exhaustion Flood", "Impact", "TA0040"},
		{"T1528", "Steal Application Access Token", "Credential Access", "TA0006"},
		{"T1550", "Use Alternate Authentication Material", "Lateral Movement", "TA0008"},
		{"T1550.001", "Application Access Token", "Lateral Movement", "TA0008"},
		{"T1550.004", "Web Session Cookie", "Lateral Movement", "TA0008"},
		{"T1567", "Exfiltration Over Web Service", "Exfiltration", "TA0010"},
		{"T1589", "Gather Victim Identity Information", "Reconnaissance", "TA0043"},
		{"T1589.002", "Email Addresses", "Reconnaissance", "TA0043"},
		{"T1595", "Active Scanning", "Reconnaissance", "TA0043"},
		{"T1595.002", "Vulnerability Scanning", "Reconnaissance", "TA0043"},
		{"T1595.003", "Wordlist Scanning", "Reconnaissance", "TA0043"},
	}
}

// techniqueOf returns the technique called id, and its parent where id names a
// sub-technique. One that is not listed has its id for a name and no tactic.
func techniqueOf(id string) (t technique, parent *technique) {
	all := techniques()
	find := func(id string) technique {
		for _, t := range all {
			if t.id == id {
				return t
			}
		}
		return technique{id: id, name: id}
	}
	if p, _, sub := strings.Cut(id, "."); sub {
		up := find(p)
		return find(id), &up
	}
	return find(id), nil
}

// detectorName is what people call a detector.
func detectorName(detector string) string {
	return cmp.Or(map[string]string{
		"enum.object": "Object enumeration", "enum.user": "Account enumeration", "probe.path": "Probing for hidden paths",
		"auth.bruteforce": "Password guessing", "auth.stuffing": "Credential stuffing", "auth.spraying": "Password spraying",
		"auth.takeover": "Account takeover", "scrape.crawl": "Scraping", "key.misuse": "Misuse of an API key",
		"data.exposure": "Data exposure", "inject.probe": "Probing for injections", "volume.flood": "Flood of requests",
	}[detector], detector)
}
