package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"weir/pipeline"
)

// ErrStale is wrapped by the error of Store.SaveTriages for a change when somebody else changed
// the triage meanwhile.
var ErrStale = errors.New("somebody else changed it meanwhile")

// ErrNoAlert is wrapped by errors about an alert that is not stored.
var ErrNoAlert = errors.New("no alert has this id")

// Triage is what people made of an alert, as its envelope shows it.
type Triage struct {
	Revision int64           `json:"revision"` // of the triage, not of the alert
	Status   string          `json:"status"`   // new, in_progress, closed
	Assignee string          `json:"assignee"`
	Verdict  string          `json:"verdict"` // of Verdicts when closed, else empty
	Tags     []string        `json:"tags"`    // sorted
	Comments []TriageComment `json:"comments"`
	Time     pipeline.Time   `json:"time"` // of the last change
	Who      string          `json:"who"`  // made it: the name of a token
}

// TriageComment is what somebody said.
type TriageComment struct {
	Time pipeline.Time `json:"time"`
	Who  string        `json:"who"`
	Text string        `json:"text"`
}

// triageStatuses are where an alert is with people.
func triageStatuses() []string { return []string{"new", "in_progress", "closed"} }

// Verdicts are what an alert turns out to be.
func Verdicts() []string {
	return []string{"true_positive", "benign_positive", "false_positive_logic", "false_positive_data", "duplicate", "undetermined", "test"}
}

// What a triage holds. Of comments the latest stay; the audit has all.
const (
	maxTags, maxTag = 32, 64
	maxComments     = 50
	maxComment      = 2000
	maxAssignee     = 128
	triageTries     = 4 // of a change that names no revision
)

// triageRequest asks for a change; what is absent stays.
type triageRequest struct {
	Status     *string  `json:"status,omitempty"`
	Assignee   *string  `json:"assignee,omitempty"` // "" for nobody
	Verdict    *string  `json:"verdict,omitempty"`
	AddTags    []string `json:"add_tags,omitempty"`
	RemoveTags []string `json:"remove_tags,omitempty"`
	Comment    string   `json:"comment,omitempty"`
}

// triage answers {"id","triage","proposed_suppression"}. The change and its entry in the audit are stored
// together or not at all.
func (c *console) triage(w http.ResponseWriter, r *http.Request, who *caller) {
	q, want, err := readTriage(r)
	if err == nil {
		var t *Triage
		for try := 1; ; try++ {
			t, err = c.change(w, r, who, q, want)
			if want >= 0 || !errors.Is(err, ErrStale) || try == triageTries {
				break
			}
		}
		if err == nil {
			var body []byte
			if body, err = c.triaged(r.Context(), r.PathValue("id"), q, t); err == nil {
				w.Header().Set("ETag", etagOf(t.Revision))
				write(w, http.StatusOK, "application/json", appendPrintable(nil, append(body, '\n')))
				return
			}
		}
	}
	if errors.Is(err, ErrStale) {
		err = &problem{Status: http.StatusConflict, Detail: "somebody else changed the triage meanwhile; read the alert again"}
	}
	c.refuseFor(w, r, err)
}

// triaged is the answer: with what the verdict proposes, if q gave one.
func (c *console) triaged(ctx context.Context, id string, q *triageRequest, t *Triage) ([]byte, error) {
	var proposed *proposedSuppression
	if q.Verdict != nil {
		var err error
		if proposed, err = c.proposal(ctx, id, t.Verdict, q.Comment); err != nil {
			return nil, err
		}
	}
	return json.Marshal(map[string]any{"id": id, "triage": t, "proposed_suppression": proposed})
}

// change makes one try; want is the revision that it is made to, -1 any.
func (c *console) change(w http.ResponseWriter, r *http.Request, who *caller, q *triageRequest, want int64) (*Triage, error) {
	id := r.PathValue("id")
	found, err := c.Store.Triages(r.Context(), []string{id})
	if err != nil {
		return nil, err
	}
	body, ok := found[id]
	if !ok {
		return nil, &problem{Status: http.StatusNotFound, Detail: ErrNoAlert.Error()}
	}
	old, err := readTriageBody(body)
	if err != nil {
		return nil, fmt.Errorf("alert %s: %w", id, err)
	}
	if want >= 0 && want != old.Revision {
		now := rowOfTriage(&old)
		return nil, &problem{Status: http.StatusConflict, Detail: fmt.Sprintf("the triage is at revision %d, not %d; read the alert again", old.Revision, want), Triage: &now}
	}
	e := c.entry(w, r, who, "alert.triage", &AuditTarget{Kind: "alert", IDs: []string{id}}, q.Comment)
	t, err := old.apply(q, who.name, e.Time)
	if err != nil {
		return nil, err
	}
	t.Revision = old.Revision + 1
	e.Outcome, e.Before, e.After = "success", old.audited(), t.audited()
	text, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	errs, err := c.Store.SaveTriages(r.Context(), []TriageSave{{ID: id, Revision: t.Revision, Body: text, Audit: e}})
	if err != nil {
		return nil, err
	}
	return t, errs[0]
}

// audited is t as the audit has it: the comment is the entry's reason.
func (t *Triage) audited() map[string]any {
	return map[string]any{"revision": t.Revision, "status": t.Status, "assignee": t.Assignee, "verdict": t.Verdict, "tags": t.Tags}
}

// apply returns t after q; the error is a *problem.
func (t *Triage) apply(q *triageRequest, who string, at pipeline.Time) (*Triage, error) {
	n := *t
	n.Time, n.Who = at, who
	if q.Status != nil {
		n.Status = *q.Status
	}
	if q.Assignee != nil {
		n.Assignee = *q.Assignee
	}
	if q.Verdict != nil {
		n.Verdict = *q.Verdict
	}
	switch {
	case n.Status == "closed" && n.Verdict == "":
		return nil, &problem{Status: http.StatusBadRequest, Detail: "verdict: say what a closed alert was, one of " + strings.Join(Verdicts(), ", ")}
	case n.Status != "closed" && q.Verdict != nil && *q.Verdict != "":
		return nil, &problem{Status: http.StatusBadRequest, Detail: "verdict: is given with the status closed"}
	case n.Status != "closed":
		n.Verdict = ""
	}
	n.Tags = slices.DeleteFunc(append(append([]string{}, t.Tags...), q.AddTags...), func(s string) bool { return slices.Contains(q.RemoveTags, s) })
	slices.Sort(n.Tags)
	if n.Tags = slices.Compact(n.Tags); len(n.Tags) > maxTags {
		return nil, &problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf("add_tags: an alert has at most %d", maxTags)}
	}
	if q.Comment != "" {
		n.Comments = append(slices.Clone(t.Comments), TriageComment{Time: at, Who: who, Text: q.Comment})
		n.Comments = n.Comments[max(0, len(n.Comments)-maxComments):]
	}
	return &n, nil
}

// readTriage reads and checks the body, and the revision in If-Match, -1 without
// one; the error is a *problem.
func readTriage(r *http.Request) (q *triageRequest, want int64, err error) {
	if err := newQuery(r.URL.RawQuery).err(); err != nil {
		return nil, 0, err
	}
	bad := func(said string) (*triageRequest, int64, error) {
		return nil, 0, &problem{Status: http.StatusBadRequest, Detail: said}
	}
	want = -1
	if tag := r.Header.Get("If-Match"); tag != "" && tag != "*" {
		if want, err = strconv.ParseInt(strings.Trim(tag, `"`), 10, 64); err != nil || want < 0 {
			return bad("If-Match: " + quote(tag) + " is no revision of a triage; 0 is that of an alert without one")
		}
	}
	q = &triageRequest{}
	if err := readBody(r, q); err != nil {
		return nil, 0, err
	}
	if said := q.check(); said != "" {
		return bad(said)
	}
	return q, want, nil
}

// check says what is wrong with q alone, "" for nothing.
func (q *triageRequest) check() string {
	q.Comment = strings.TrimSpace(q.Comment)
	oneOf := func(name string, got *string, words []string) string {
		if got == nil || slices.Contains(words, *got) {
			return ""
		}
		return fmt.Sprintf("%s: %s is none of %s", name, quote(*got), strings.Join(words, ", "))
	}
	switch {
	case q.Status == nil && q.Assignee == nil && q.Verdict == nil && len(q.AddTags) == 0 && len(q.RemoveTags) == 0 && q.Comment == "":
		return "there is nothing to change: give status, assignee, verdict, add_tags, remove_tags or comment"
	case q.Assignee != nil && (len(*q.Assignee) > maxAssignee || strings.ContainsFunc(*q.Assignee, unicode.IsControl)):
		return fmt.Sprintf("assignee: a name on one line, at most %d bytes", maxAssignee)
	case utf8.RuneCountInString(q.Comment) > maxComment || strings.ContainsFunc(q.Comment, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }):
		return fmt.Sprintf("comment: text of at most %d characters", maxComment)
	}
	for _, tag := range slices.Concat(q.AddTags, q.RemoveTags) {
		if tag == "" || len(tag) > maxTag || strings.Trim(tag, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/") != "" {
			return fmt.Sprintf("tags: %s; want letters, digits and -_.:/, at most %d", quote(tag), maxTag)
		}
	}
	if len(q.AddTags) > maxTags || len(q.RemoveTags) > maxTags {
		return fmt.Sprintf("tags: at most %d at a time", maxTags)
	}
	if said := oneOf("status", q.Status, triageStatuses()); said != "" {
		return said
	}
	return oneOf("verdict", q.Verdict, append(Verdicts(), ""))
}
