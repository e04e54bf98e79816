package console

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// requestID is the header that names an answer; its problem and the log have
// the same word.
const requestID = "X-Request-Id"

// problem is an answer that is none, as RFC 9457 has it.
type problem struct {
	Type      string   `json:"type"`
	Title     string   `json:"title"`
	Status    int      `json:"status"`
	Detail    string   `json:"detail"`
	RequestID string   `json:"request_id"`
	WaitsFor  []string `json:"waits_for,omitempty"` // of /readyz

	OldestCursor string `json:"oldest_cursor,omitempty"` // of a feed, 410

	Triage *triageRow `json:"triage,omitempty"` // of an alert that somebody else changed, 409
	Count  *int64     `json:"count,omitempty"`  // that a filter selects now, 409
}

func (p *problem) Error() string { return p.Detail }

// refuse answers with p; only Status and Detail need to be set.
func refuse(w http.ResponseWriter, p *problem) {
	full := *p
	full.Type, full.Title, full.RequestID = "about:blank", http.StatusText(p.Status), w.Header().Get(requestID)
	body, err := json.Marshal(full)
	if err != nil {
		panic("BUG: problem is no JSON: " + err.Error())
	}
	write(w, p.Status, "application/problem+json", appendPrintable(nil, append(body, '\n')))
}

// quote shows what a caller sent, cut to what a person reads.
func quote(s string) string {
	if len(s) > 80 {
		return strconv.Quote(strings.ToValidUTF8(s[:80], "")) + "..."
	}
	return strconv.Quote(s)
}
