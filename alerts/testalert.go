package alerts

import (
	"fmt"

	"weir/pipeline"
)

// TestAlert is an alert that says it is a test, to see whether a sink takes alerts.
// at is when it is sent; each time makes an alert of its own.
func TestAlert(version string, at pipeline.Time) *pipeline.Alert {
	return &pipeline.Alert{
		Schema: pipeline.AlertSchema, ID: fmt.Sprintf("test-%016x", uint64(at)), Revision: 1, Status: "open",
		Change: pipeline.AlertChange{Kind: "opened", Text: "a test"}, Detector: "health.test", Severity: "info", Tier: "context",
		Title: "Test alert from weir", Reason: "Somebody asked weir to send a test alert. Nothing happened.",
		Next: []string{"Nothing: this sink works"}, BenignIf: []string{}, Level: "endpoint",
		Principal: pipeline.Principal{Kind: pipeline.PrincipalEndpoint, Value: "test"},
		Window:    pipeline.AlertWindow{Onset: at, First: at, Last: at, DetectedAt: at},
		Score:     pipeline.AlertScore{PageAt: pipeline.PageAt.Float(), ReviewAt: pipeline.ReviewAt.Float(), Odds: pipeline.AlertOdds{OneIn: 1, Unit: "client-day", Basis: "bound"}},
		Outcome:   pipeline.Outcome{Basis: "unknown"}, Quality: pipeline.AlertQuality{Sampled: 1},
		Labels:   labels(nil),
		Versions: pipeline.AlertVersions{Weir: version},
		Envelope: pipeline.AlertEnvelope{Triage: map[string]any{"verdict": "test"}, Links: map[string]any{}, Silence: map[string]any{}},
	}
}
