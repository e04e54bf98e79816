package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTriage(t *testing.T) {
	s := &fakeStore{}
	s.put("a1")
	o := options(s)
	h := newHandler(o)
	anna := s.give(o, "anna", Analyst)
	ask := func(match, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("PATCH", "/api/v1/alerts/a1", strings.NewReader(body))
		r.Host = "localhost"
		r.Header.Set("Authorization", "Bearer "+anna)
		r.Header.Set("Content-Type", "application/json")
		if match != "" {
			r.Header.Set("If-Match", match)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	d := readDocumentAs(t, h, anna)
	f := func(match, body, want string) {
		t.Helper()
		w := ask(match, body)
		var got struct{ Triage Triage }
		var v any
		if err := errors.Join(json.Unmarshal(w.Body.Bytes(), &got), json.Unmarshal(w.Body.Bytes(), &v)); err != nil || w.Code != 200 {
			t.Fatalf("%s: %d %s", body, w.Code, w.Body)
		}
		for _, bad := range d.check("answer", d.at("components", "schemas", "Triaged"), v) {
			t.Error(bad)
		}
		x := &got.Triage
		texts := []string{}
		for _, c := range x.Comments {
			texts = append(texts, c.Who+": "+c.Text)
		}
		line := fmt.Sprintf("%d %s %q %q %v %v", x.Revision, x.Status, x.Assignee, x.Verdict, x.Tags, texts)
		if line != want || w.Header().Get("ETag") != fmt.Sprintf("%q", fmt.Sprint(x.Revision)) || x.Who != "anna" || x.Time == 0 {
			t.Errorf("%s: %s, want %s (%v)", body, line, want, w.Header())
		}
	}
	f("", `{"assignee":"anna"}`, `1 new "anna" "" [] []`)
	f(`"1"`, `{"status":"in_progress","add_tags":["partner","b","partner"],"comment":" is it theirs?\n"}`, `2 in_progress "anna" "" [b partner] [anna: is it theirs?]`)
	f("2", `{"status":"closed","verdict":"benign_positive","remove_tags":["b","c"],"comment":"it is"}`, `3 closed "anna" "benign_positive" [partner] [anna: is it theirs? anna: it is]`)
	f("*", `{"verdict":"duplicate"}`, `4 closed "anna" "duplicate" [partner] [anna: is it theirs? anna: it is]`)
	f("4", `{"status":"new","assignee":""}`, `5 new "" "" [partner] [anna: is it theirs? anna: it is]`) // open again: no verdict
	for i := range maxComments {
		ask("", fmt.Sprintf(`{"comment":"%d"}`, i))
	}
	w := ask("", `{"comment":"last"}`)
	if n := strings.Count(w.Body.String(), `"text"`); n != maxComments || !strings.Contains(w.Body.String(), `"last"`) {
		t.Errorf("%d comments, want the latest %d", n, maxComments)
	}

	entries := s.entries()
	e := entries[2]
	if e.Action != "alert.triage" || e.Outcome != "success" || e.Who.Name != "anna" || e.Reason != "it is" || e.Target.IDs[0] != "a1" || e.RequestID == "" ||
		cmp.Diff(map[string]any{"revision": 2.0, "status": "in_progress", "assignee": "anna", "verdict": "", "tags": []any{"b", "partner"}}, e.Before) != "" ||
		cmp.Diff(map[string]any{"revision": 3.0, "status": "closed", "assignee": "anna", "verdict": "benign_positive", "tags": []any{"partner"}}, e.After) != "" {
		t.Errorf("%+v", e)
	}

	bad := func(match, body string, status int, detail string) {
		t.Helper()
		wantProblem(t, ask(match, body), status, detail)
	}
	many := `"t` + strings.Repeat(`","t`, maxTags) + `"`
	distinct := []string{}
	for i := range maxTags {
		distinct = append(distinct, fmt.Sprintf(`"t%d"`, i))
	}
	bad("4", `{"assignee":"bob"}`, 409, "read the alert again")
	bad("0", `{"assignee":"bob"}`, 409, "read the alert again")
	bad("x", `{"assignee":"bob"}`, 400, "If-Match")
	bad("-1", `{"assignee":"bob"}`, 400, "If-Match")
	bad("", `{}`, 400, "nothing to change")
	bad("", `{"comment":" "}`, 400, "nothing to change")
	bad("", `{"status":"closed"}`, 400, "verdict: say what")
	bad("", `{"status":"closed","verdict":""}`, 400, "verdict: say what")
	bad("", `{"verdict":"test"}`, 400, "given with the status closed")
	bad("", `{"status":"done"}`, 400, "status:")
	bad("", `{"status":"closed","verdict":"fine"}`, 400, "verdict:")
	bad("", `{"assignee":"a\nb"}`, 400, "assignee:")
	bad("", `{"assignee":"`+strings.Repeat("x", maxAssignee+1)+`"}`, 400, "assignee:")
	bad("", `{"comment":"`+strings.Repeat("x", maxComment+1)+`"}`, 400, "comment:")
	bad("", `{"comment":"a\u001b[2Jb"}`, 400, "comment:")
	bad("", `{"add_tags":["a b"]}`, 400, "tags:")
	bad("", `{"remove_tags":[""]}`, 400, "tags:")
	bad("", `{"add_tags":[`+many+`]}`, 400, "tags: at most")
	bad("", `{"add_tags":[`+strings.Join(distinct, ",")+`]}`, 400, "add_tags: an alert has at most")
	bad("", `{"severity":"low"}`, 400, "unknown field")
	bad("", goodTriage+goodTriage, 400, "more than one value")
	bad("", `{"comment":"`+strings.Repeat("x", maxBody)+`"}`, 413, "larger than")
	wantProblem(t, askAs(h, anna, "PATCH", "/api/v1/alerts/none", goodTriage), 404, "no alert has this id")
	wantProblem(t, askAs(h, anna, "PATCH", "/api/v1/alerts/a1?x=1", goodTriage), 400, "no parameter")
	if n := len(s.entries()); n != len(entries) {
		t.Errorf("%d entries of what was not done", n-len(entries))
	}
	s.auditErr = errors.New("disk full")
	bad("", goodTriage, 500, "the store did not answer")
}

// Changes that name no revision are all made, at the same time too.
func TestTriageTogether(t *testing.T) {
	s := &fakeStore{}
	s.put("a1")
	o := options(s)
	h := newHandler(o)
	anna := s.give(o, "anna", Analyst)
	var wg sync.WaitGroup
	codes := make([]int, 16)
	for i := range codes {
		wg.Go(func() {
			codes[i] = askAs(h, anna, "PATCH", "/api/v1/alerts/a1", fmt.Sprintf(`{"add_tags":["t%d"]}`, i)).Code
		})
	}
	wg.Wait()
	made := 0
	for _, code := range codes {
		switch code {
		case http.StatusOK:
			made++
		case http.StatusConflict: // the tries are bounded
		default:
			t.Errorf("%d", code)
		}
	}
	var last Triage
	if err := json.Unmarshal(s.triages["a1"][len(s.triages["a1"])-1], &last); err != nil || made == 0 || len(last.Tags) != made || last.Revision != int64(made) {
		t.Errorf("%d changes were taken, the triage has %v: %v", made, last, err)
	}
}
