package console

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"weir/pipeline"
)

// What the overviews look at.
const (
	campaignsLimit, maxCampaigns = 50, 200
	campaignMembers              = 100 // alerts that a campaign in the list is told from
	maxCampaignMembers           = 500
)

// campaignView is a campaign in the list.
type campaignView struct {
	ID         string        `json:"id"`
	Title      string        `json:"title"`
	Severity   string        `json:"severity"`
	Detectors  []string      `json:"detectors"`
	Alerts     int64         `json:"alerts"`
	Open       int64         `json:"open"`
	New        int64         `json:"new"`
	Principals int           `json:"principals"`
	Requests   int64         `json:"requests"`
	Succeeded  *int64        `json:"succeeded"` // null where no member knows
	First      pipeline.Time `json:"first"`
	Last       pipeline.Time `json:"last"`
	Endpoints  []string      `json:"endpoints"`
	Alert      *string       `json:"campaign_alert"` // the one that is about the whole of it
}

// campaignEvent is what happened in a campaign.
type campaignEvent struct {
	Time  pipeline.Time `json:"time"`
	Alert string        `json:"alert"`
	Kind  string        `json:"kind"` // first, and the kinds of changes
	Text  string        `json:"text"`
}

// campaignPage is one campaign.
type campaignPage struct {
	campaignView
	Members  []alertRow      `json:"members"`
	Timeline []campaignEvent `json:"timeline"`
}

// campaigns answers {"data":[...],"more":BOOL}: the ones with most alerts first.
func (c *console) campaigns(r *http.Request) (any, error) {
	q := newQuery(r.URL.RawQuery)
	var f AlertQuery
	f.Since, f.Until = q.window()
	f.Status = q.words("status", "open", "resolved")
	limit := int(q.number("limit", campaignsLimit, 1, maxCampaigns))
	if err := q.err(); err != nil {
		return nil, err
	}
	groups, err := c.Store.GroupAlerts(r.Context(), f, "campaign")
	if err != nil {
		return nil, err
	}
	groups = slices.DeleteFunc(groups, func(g AlertGroup) bool { return g.Key == "" })
	list := []campaignView{}
	for _, g := range groups[:min(len(groups), limit)] {
		members, err := c.membersOf(r.Context(), g.Key, campaignMembers)
		if err != nil {
			return nil, err
		}
		list = append(list, campaignOf(&g, members))
	}
	return map[string]any{"data": list, "more": len(groups) > limit}, nil
}

func (c *console) membersOf(ctx context.Context, id string, limit int) ([]Found, error) {
	list, err := c.Store.FindAlerts(ctx, AlertQuery{Campaign: id, Sort: sortSeverity, Limit: limit})
	return list.Alerts, err
}

// campaignOf tells a campaign from its members, the most severe first.
func campaignOf(g *AlertGroup, members []Found) campaignView {
	v := campaignView{ID: g.Key, Severity: g.Severity, Alerts: g.Count, Open: g.Open, New: g.New, Detectors: []string{}, Endpoints: []string{}}
	principals := map[pipeline.Principal]bool{}
	for i := range members {
		a := &members[i].Alert
		if v.Title == "" || a.Level == "campaign" && v.Alert == nil {
			v.Title = a.Title
		}
		if a.Level == "campaign" && v.Alert == nil {
			v.Alert = &a.ID
		}
		principals[a.Principal] = true
		v.Requests += a.Outcome.Requests
		if a.Outcome.Succeeded != nil {
			v.Succeeded = new(*a.Outcome.Succeeded + orZero(v.Succeeded))
		}
		if v.First == 0 || a.Window.First < v.First {
			v.First = a.Window.First
		}
		v.Last = max(v.Last, a.Window.Last)
		v.Detectors = append(v.Detectors, a.Detector)
		if a.Endpoint.Template != "" {
			v.Endpoints = append(v.Endpoints, strings.Join(slices.DeleteFunc([]string{a.Endpoint.Method, a.Endpoint.Host, a.Endpoint.Template}, func(s string) bool { return s == "" }), " "))
		}
	}
	v.Principals = len(principals)
	for _, list := range []*[]string{&v.Detectors, &v.Endpoints} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	v.Endpoints = v.Endpoints[:min(len(v.Endpoints), 20)]
	return v
}

func orZero(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

// campaign answers one campaign with its members and what happened when.
func (c *console) campaign(r *http.Request) (any, error) {
	if err := newQuery(r.URL.RawQuery).err(); err != nil {
		return nil, err
	}
	id := r.PathValue("id")
	groups, err := c.Store.GroupAlerts(r.Context(), AlertQuery{Campaign: id}, "campaign")
	if err == nil && len(groups) == 0 {
		err = &problem{Status: http.StatusNotFound, Detail: "no campaign has this id"}
	}
	if err != nil {
		return nil, err
	}
	members, err := c.membersOf(r.Context(), id, maxCampaignMembers)
	if err != nil {
		return nil, err
	}
	page := campaignPage{campaignView: campaignOf(&groups[0], members), Timeline: []campaignEvent{}}
	if page.Members, err = rowsOf(members); err != nil {
		return nil, err
	}
	for i := range members[:min(len(members), campaignMembers)] {
		revisions, err := c.Store.Revisions(r.Context(), members[i].Alert.ID)
		if err != nil {
			return nil, err
		}
		for k := range revisions {
			a := &revisions[k].Alert
			if k == 0 {
				page.Timeline = append(page.Timeline, campaignEvent{a.Window.First, a.ID, "first", a.Title})
			}
			if a.Change.Kind != "still_active" {
				page.Timeline = append(page.Timeline, campaignEvent{a.Window.DetectedAt, a.ID, a.Change.Kind, a.Change.Text})
			}
		}
	}
	slices.SortStableFunc(page.Timeline, func(x, y campaignEvent) int { return cmp.Compare(x.Time, y.Time) })
	return page, nil
}

// DetectorInfo is a detector as it is configured.
type DetectorInfo struct {
	Name  string
	Mode  string // on, shadow, off
	Title string
	Doc   string
	Knobs []Knob
}

// Knob is what can be turned at a detector.
type Knob struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	Default string `json:"default"`
	Unit    string `json:"unit"`
	Text    string `json:"text"`
}

// detectorView is a detector with what came of it.
type detectorView struct {
	Name     string           `json:"name"`
	Mode     string           `json:"mode"`
	Title    string           `json:"title"`
	Doc      string           `json:"doc"`
	Alerts   int64            `json:"alerts"`
	Open     int64            `json:"open"`
	New      int64            `json:"new"`
	Verdicts map[string]int64 `json:"verdicts"`
	Judged   int64            `json:"judged"` // closed as true, benign or false positive
	FalseBy  *float64         `json:"false_positive_rate"`
	Knobs    []Knob           `json:"knobs"`
	Attack   []string         `json:"attack"`
	OWASP    []string         `json:"owasp_api"`
	OAT      []string         `json:"oat"`
	Last     *pipeline.Time   `json:"last"`
}

// detectors answers {"data":[...]}: each with its alerts and what people said of
// them. The false ones are a share of those that were judged true, benign or false; what
// was a duplicate, a test or undetermined says neither.
func (c *console) detectors(r *http.Request) (any, error) {
	q := newQuery(r.URL.RawQuery)
	var f AlertQuery
	f.Since, f.Until = q.window()
	if err := q.err(); err != nil {
		return nil, err
	}
	var infos []DetectorInfo
	if c.Detectors != nil {
		infos = c.Detectors()
	}
	by := map[string]*detectorView{}
	list := []*detectorView{}
	view := func(name string) *detectorView {
		v := by[name]
		if v == nil {
			v = &detectorView{Name: name, Mode: "on", Verdicts: map[string]int64{}, Knobs: []Knob{}, Attack: []string{}, OWASP: []string{}, OAT: []string{}}
			by[name], list = v, append(list, v)
		}
		return v
	}
	for _, d := range infos {
		v := view(d.Name)
		v.Mode, v.Title, v.Doc, v.Knobs = d.Mode, d.Title, d.Doc, append(v.Knobs, d.Knobs...)
	}
	groups, err := c.Store.GroupAlerts(r.Context(), f, "detector")
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		v := view(g.Key)
		v.Alerts, v.Open, v.New = g.Count, g.Open, g.New
		latest, err := c.Store.FindAlerts(r.Context(), AlertQuery{AfterSeq: g.Seq - 1, BeforeSeq: g.Seq + 1, Limit: 1})
		if err != nil {
			return nil, err
		}
		for i := range latest.Alerts {
			a := &latest.Alerts[i].Alert
			v.Last = &a.Window.Last
			v.Attack, v.OWASP, v.OAT = append(v.Attack, a.Attack...), append(v.OWASP, a.OWASP...), append(v.OAT, a.OAT...)
		}
	}
	for _, verdict := range Verdicts() {
		f.Verdict = []string{verdict}
		groups, err := c.Store.GroupAlerts(r.Context(), f, "detector")
		if err != nil {
			return nil, err
		}
		for _, g := range groups {
			view(g.Key).Verdicts[verdict] = g.Count
		}
	}
	for _, v := range list {
		wrong := v.Verdicts["false_positive_logic"] + v.Verdicts["false_positive_data"]
		if v.Judged = wrong + v.Verdicts["true_positive"] + v.Verdicts["benign_positive"]; v.Judged > 0 {
			v.FalseBy = new(float64(wrong) / float64(v.Judged))
		}
	}
	return map[string]any{"data": list}, nil
}

// System is how weir is.
type System struct {
	Version   string          `json:"version"`
	Config    string          `json:"config"`
	Edition   *SystemEdition  `json:"edition"`
	Started   pipeline.Time   `json:"started"`
	Ready     bool            `json:"ready"`
	WaitsFor  []string        `json:"waits_for"`
	Detect    SystemDetect    `json:"detect"`
	State     []SystemState   `json:"state"`
	Store     SystemStore     `json:"store"`
	Sources   []SystemSource  `json:"sources"`
	Rejects   []SystemRejects `json:"rejects"`
	Sinks     []SystemSink    `json:"sinks"`
	Readers   []readerView    `json:"readers"`
	PerSecond *float64        `json:"traffic_per_s"` // over the last ten minutes with requests
	// Processes are those of a fleet, none where there is one alone.
	Processes []SystemProcess `json:"processes"`
}

// SystemProcess is a process of a fleet, as it said last.
type SystemProcess struct {
	Instance string        `json:"instance"`
	PID      int           `json:"pid"`
	Roles    []string      `json:"roles"`
	State    string        `json:"state"` // running; ended, as it was told to; gone
	Version  string        `json:"version"`
	Config   string        `json:"config"`
	Started  pipeline.Time `json:"started"`
	Seen     pipeline.Time `json:"seen"`
	Slices   []SystemState `json:"slices"` // how many it has of what is shared
	Lag      []SystemState `json:"lag"`    // records that wait for a stage of it
}

// SystemEdition is the edition in force.
type SystemEdition struct {
	Number    int64          `json:"number"`
	Effective *pipeline.Time `json:"effective"`
	Hash      string         `json:"hash"`
}

// SystemDetect is how far detection is.
type SystemDetect struct {
	Through     *pipeline.Time `json:"through"`
	LagRecords  int64          `json:"lag_records"`
	LagSeconds  float64        `json:"lag_s"`
	Position    *int64         `json:"position"` // null in a fleet, as the next three
	Late        *int64         `json:"late"`
	Skewed      *int64         `json:"skewed"`
	Duplicates  *int64         `json:"duplicates"`
	Differences int64          `json:"replay_differences"`
}

// SystemState is a size of what detection keeps in memory.
type SystemState struct {
	Name  string `json:"name"`
	Value int64  `json:"value"`
}

// SystemStore is the store.
type SystemStore struct {
	Path         string         `json:"path"`
	Bytes        int64          `json:"bytes"`
	FileBytes    int64          `json:"file_bytes"`
	MaxBytes     *int64         `json:"max_bytes"`
	DiskFree     *int64         `json:"disk_free"`
	Requests     *int64         `json:"requests"` // null where there is no store of them
	Oldest       *pipeline.Time `json:"oldest"`
	Newest       *pipeline.Time `json:"newest"`
	Alerts       int64          `json:"alerts"`
	Shed         int64          `json:"shed"`
	ReserveArmed bool           `json:"reserve_armed"`
}

// SystemSource is a source of requests.
type SystemSource struct {
	Source   string         `json:"source"`
	Requests int64          `json:"requests"`
	Lines    int64          `json:"lines"`
	Rejected int64          `json:"rejected"`
	Lost     int64          `json:"lost"`
	LastLine *pipeline.Time `json:"last_line"`
}

// SystemRejects are lines that were no request, by reason.
type SystemRejects struct {
	Reason string `json:"reason"`
	Count  int64  `json:"count"`
}

// SystemSink is where alerts go.
type SystemSink struct {
	Name    string `json:"name"`
	Kind    string `json:"kind"`
	State   string `json:"state"` // ok, failing, down, degraded, disabled; "" before the first try
	Reason  string `json:"reason"`
	Seq     int64  `json:"seq"`
	Behind  int64  `json:"behind"`
	Retries int64  `json:"retries"`
	Dead    int64  `json:"dead_letters"`
}

// system answers how weir is: what it waits for, what it lost, what it keeps.
func (c *console) system(r *http.Request) (any, error) {
	if err := newQuery(r.URL.RawQuery).err(); err != nil {
		return nil, err
	}
	if c.System == nil {
		return nil, &problem{Status: http.StatusNotFound, Detail: "this weir does not say how it is"}
	}
	v, err := c.System(r.Context())
	if err != nil {
		return nil, fmt.Errorf("say how weir is: %w", err)
	}
	if v.WaitsFor = c.Waits(r.Context()); v.WaitsFor == nil {
		v.WaitsFor = []string{}
	}
	v.Ready = len(v.WaitsFor) == 0
	v.Readers, err = c.readers.list(r.Context(), "")
	return v, err
}
