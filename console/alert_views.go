package console

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"weir/pipeline"
)

// What the views of one alert show.
const (
	maxAlertAudit      = 500
	maxRelated         = 50
	relatedEach        = maxRelated
	alertRequestsLimit = 200
	maxMembersAsked    = 16
)

// revisionRow is a revision in the history of an alert.
type revisionRow struct {
	Revision  int                  `json:"revision"`
	Seq       int64                `json:"seq"`
	Time      pipeline.Time        `json:"time"`
	Status    string               `json:"status"`
	Severity  string               `json:"severity"`
	Tier      string               `json:"tier"`
	Change    pipeline.AlertChange `json:"change"`
	Score     float64              `json:"score"`
	Requests  int64                `json:"requests"`
	Succeeded *int64               `json:"succeeded"`
	Accounts  *int64               `json:"accounts"`
	Objects   int64                `json:"objects"`
	Rate5m    int64                `json:"rate_5m"`
	Last      pipeline.Time        `json:"last"`
	Reason    string               `json:"reason"`
}

// revisionsOf returns the revisions of the alert that r names; a *problem for one
// that is not stored.
func (c *console) revisionsOf(r *http.Request) ([]Found, error) {
	list, err := c.Store.Revisions(r.Context(), r.PathValue("id"))
	if err == nil && len(list) == 0 {
		err = &problem{Status: http.StatusNotFound, Detail: ErrNoAlert.Error()}
	}
	return list, err
}

func (c *console) latestOf(r *http.Request) (*Found, error) {
	list, err := c.Store.Found(r.Context(), []string{r.PathValue("id")})
	if err == nil && len(list) == 0 {
		err = &problem{Status: http.StatusNotFound, Detail: ErrNoAlert.Error()}
	}
	if err != nil {
		return nil, err
	}
	return &list[0], nil
}

// revisions answers {"data":[...]}: how an alert grew.
func (c *console) revisions(r *http.Request) (any, error) {
	if err := newQuery(r.URL.RawQuery).err(); err != nil {
		return nil, err
	}
	list, err := c.revisionsOf(r)
	if err != nil {
		return nil, err
	}
	rows := make([]revisionRow, len(list))
	for i := range list {
		a := &list[i].Alert
		rows[i] = revisionRow{
			a.Revision, list[i].Seq, a.Window.DetectedAt, a.Status, a.Severity, a.Tier, a.Change, a.Score.Nats, a.Outcome.Requests, a.Outcome.Succeeded,
			a.Outcome.Accounts, a.Outcome.Objects, a.Rate5m, a.Window.Last, a.Reason,
		}
	}
	return map[string]any{"data": rows}, nil
}

// deliveries answers {"data":[...]}: how far each sink has come with an alert.
func (c *console) deliveries(r *http.Request) (any, error) {
	if err := newQuery(r.URL.RawQuery).err(); err != nil {
		return nil, err
	}
	a, err := c.latestOf(r)
	if err != nil {
		return nil, err
	}
	list := []Delivery{}
	if c.Deliveries != nil {
		list, err = c.Deliveries(r.Context(), a)
	}
	return map[string]any{"data": list}, err
}

// auditOfRow is an entry of the audit about an alert.
type auditOfRow struct {
	Seq       int64           `json:"seq"`
	Time      pipeline.Time   `json:"time"`
	Action    string          `json:"action"`
	Outcome   string          `json:"outcome"`
	Who       AuditWho        `json:"who"`
	Reason    string          `json:"reason"`
	Before    json.RawMessage `json:"before"`
	After     json.RawMessage `json:"after"`
	RequestID string          `json:"request_id"`
}

// auditOf answers {"data":[...]}: what people did with an alert, the newest first.
func (c *console) auditOf(r *http.Request) (any, error) {
	if err := newQuery(r.URL.RawQuery).err(); err != nil {
		return nil, err
	}
	if _, err := c.latestOf(r); err != nil {
		return nil, err
	}
	list, err := c.Store.AlertAudit(r.Context(), r.PathValue("id"), maxAlertAudit)
	rows := []auditOfRow{}
	for _, e := range list {
		row := auditOfRow{Seq: e.Seq}
		if json.Unmarshal(e.Entry, &row) != nil {
			continue // somebody changed it; verify says where
		}
		row.Seq = e.Seq
		rows = append(rows, row)
	}
	return map[string]any{"data": rows}, err
}

// relatedRow is an alert and what it shares with another.
type relatedRow struct {
	Why   []string `json:"why"`
	Alert alertRow `json:"alert"`
}

// related answers {"data":[...]}: alerts of the same campaign, principal, address
// or endpoint; those that share most first, then those that changed last.
func (c *console) related(r *http.Request) (any, error) {
	if err := newQuery(r.URL.RawQuery).err(); err != nil {
		return nil, err
	}
	of, err := c.latestOf(r)
	if err != nil {
		return nil, err
	}
	a := &of.Alert
	looks := []struct {
		why string
		q   AlertQuery
	}{}
	look := func(why string, q AlertQuery) {
		q.Sort, q.Limit = sortNewest, relatedEach+1
		looks = append(looks, struct {
			why string
			q   AlertQuery
		}{why, q})
	}
	if a.Campaign != "" {
		look("campaign", AlertQuery{Campaign: a.Campaign})
	}
	if a.Principal.Value != "" {
		look("principal", AlertQuery{Principal: a.Principal})
	}
	for _, address := range a.Addresses[:min(len(a.Addresses), 8)] {
		look("address", AlertQuery{Address: address})
	}
	for _, p := range a.Members[:min(len(a.Members), 8)] {
		look("member", AlertQuery{Principal: p})
	}
	if a.Endpoint.Template != "" {
		look("endpoint", AlertQuery{Endpoint: a.Endpoint.Method + " " + a.Endpoint.Host + " " + a.Endpoint.Template})
	}
	found, whys := map[string]*Found{}, map[string][]string{}
	for _, l := range looks {
		list, err := c.Store.FindAlerts(r.Context(), l.q)
		if err != nil {
			return nil, err
		}
		for i := range list.Alerts {
			id := list.Alerts[i].Alert.ID
			if id != a.ID && !slices.Contains(whys[id], l.why) {
				found[id], whys[id] = &list.Alerts[i], append(whys[id], l.why)
			}
		}
	}
	ids := make([]string, 0, len(found))
	for id := range found {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(x, y string) int {
		if d := len(whys[y]) - len(whys[x]); d != 0 {
			return d
		}
		return int(found[y].Seq - found[x].Seq)
	})
	rows := []relatedRow{}
	for _, id := range ids[:min(len(ids), maxRelated)] {
		row, err := rowOf(found[id])
		if err != nil {
			return nil, err
		}
		rows = append(rows, relatedRow{whys[id], row})
	}
	return map[string]any{"data": rows}, nil
}

// evidenceRow is a request of an alert's principal; evidence marks those that the
// alert shows as examples, at_endpoint those at the alert's endpoint.
type evidenceRow struct {
	Request
	Evidence   bool `json:"evidence"`
	AtEndpoint bool `json:"at_endpoint"`
}

// atEndpoint reports whether v is at the endpoint that an alert is about.
func (c *console) atEndpoint(v *Request, e *pipeline.Endpoint) bool {
	return e.Template != "" && (e.Method == "" || e.Method == v.Method) && (e.Host == "" || e.Host == v.Host) &&
		(v.Path == e.Template || c.Template != nil && c.Template(v.Host, v.Path) == e.Template)
}

// alertRequests answers the requests of an alert's principal in its window, newest
// first: of a campaign those of its first members or addresses.
func (c *console) alertRequests(r *http.Request) (any, error) {
	q := newQuery(r.URL.RawQuery)
	limit := int(q.number("limit", alertRequestsLimit, 1, alertsLimit*10))
	until := q.time("until")
	if err := q.err(); err != nil {
		return nil, err
	}
	of, err := c.latestOf(r)
	if err != nil {
		return nil, err
	}
	a := &of.Alert
	f := RequestFilter{Since: a.Window.First, Until: a.Window.Last, Limit: limit + 1}
	if a.Window.Onset != 0 && a.Window.Onset < f.Since {
		f.Since = a.Window.Onset
	}
	if until != 0 {
		f.Until = min(f.Until, until)
	}
	marked := map[string]bool{} // by what examples call it: the last part of its source, and the line
	for _, e := range a.Exemplars {
		marked[e.Source] = true
	}
	rows := []evidenceRow{}
	n, there := 0, 0
	for _, p := range principalsOf(a) {
		f.Principal = p
		err := c.Store.Requests(r.Context(), f, func(r *pipeline.Request, source string) bool {
			v := viewOf(r, source).kept()
			row := evidenceRow{v, marked[v.Source[strings.LastIndexByte(v.Source, '/')+1:]], c.atEndpoint(&v, &a.Endpoint)}
			rows = append(rows, row)
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(rows, func(x, y evidenceRow) int {
		switch {
		case x.Time > y.Time:
			return -1
		case x.Time < y.Time:
			return 1
		}
		return 0
	})
	more := len(rows) > limit
	rows = rows[:min(len(rows), limit)]
	for i := range rows {
		if rows[i].Evidence {
			n++
		}
		if rows[i].AtEndpoint {
			there++
		}
	}
	return map[string]any{
		"data": rows, "more": more, "since": f.Since, "until": f.Until,
		"evidence": map[string]any{"marked": n, "basis": "exemplars", "at_endpoint": there},
	}, nil
}

// principalsOf are whose requests an alert is about.
func principalsOf(a *pipeline.Alert) (list []pipeline.Principal) {
	switch a.Principal.Kind {
	case pipeline.PrincipalCohort, pipeline.PrincipalEndpoint, pipeline.PrincipalNone:
	default:
		list = append(list, a.Principal)
	}
	list = append(list, a.Members[:min(len(a.Members), maxMembersAsked)]...)
	if len(list) > 0 {
		return list
	}
	for _, text := range a.Addresses[:min(len(a.Addresses), maxMembersAsked)] {
		if address, ok := pipeline.ParseAddress(text); ok {
			list = append(list, pipeline.Principal{Kind: pipeline.PrincipalIP, Value: address.PrincipalValue()})
		}
	}
	return list
}

// kept is v with strings of its own: it outlives the request.
func (v *Request) kept() Request {
	k := *v
	for _, s := range []*string{&k.Principal.Value, &k.Method, &k.Host, &k.Path, &k.Query, &k.Agent, &k.Referer, &k.Account, &k.Key, &k.Session, &k.LoginUser} {
		*s = string([]byte(*s))
	}
	return k
}

// alertWithTag answers all revisions of an alert, with the revision of its triage.
func (c *console) alertWithTag(w http.ResponseWriter, r *http.Request, who *caller) {
	found, err := c.Store.Triages(r.Context(), []string{r.PathValue("id")})
	if err != nil {
		c.failed(w, r, err)
		return
	}
	if body, ok := found[r.PathValue("id")]; ok {
		if t, err := readTriageBody(body); err == nil {
			w.Header().Set("ETag", etagOf(t.Revision))
		}
	}
	c.api(c.alert)(w, r, who)
}

// etagOf is the revision of a triage as a header has it.
func etagOf(revision int64) string { return strconv.Quote(strconv.FormatInt(revision, 10)) }
