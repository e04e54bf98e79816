package console

import (
	"net/http"
	"strings"

	"weir/pipeline"
)

// ExplainRequest is what an explanation is wanted of: one of Client, Alert and
// Line is set.
type ExplainRequest struct {
	Client       string        // KIND:VALUE: why it did not alert
	Since, Until pipeline.Time // with Client; 0 is open
	Alert        string        // an id: every request that carries evidence
	Line         string        // of a log: how it is read
}

const maxExplainLine = 32 << 10 // bytes

type explainBody struct {
	Client string `json:"client,omitempty"`
	Since  string `json:"since,omitempty"`
	Until  string `json:"until,omitempty"`
	Alert  string `json:"alert,omitempty"`
	Line   string `json:"line,omitempty"`
}

// startExplain answers 202 {"id"}.
func (c *console) startExplain(w http.ResponseWriter, r *http.Request, _ *caller) error {
	var q explainBody
	if err := newQuery(r.URL.RawQuery).err(); err != nil {
		return err
	}
	if err := readBody(r, &q); err != nil {
		return err
	}
	bad := func(detail string) error { return &problem{Status: http.StatusBadRequest, Detail: detail} }
	given := 0
	for _, s := range []string{q.Client, q.Alert, q.Line} {
		if s != "" {
			given++
		}
	}
	switch {
	case given != 1:
		return bad("give one of client, alert and line")
	case q.Client == "" && q.Since+q.Until != "":
		return bad("since and until go with client")
	case len(q.Client) > maxAccount+32 || len(q.Alert) > maxAlert || len(q.Line) > maxExplainLine:
		return bad("client, alert and line are shorter than that")
	case strings.ContainsAny(q.Line, "\r\n"):
		return bad("line is one line")
	case strings.HasPrefix(q.Alert, "-"):
		return bad("alert: no id begins so")
	}
	x := ExplainRequest{Client: q.Client, Alert: q.Alert, Line: q.Line}
	var err error
	if x.Since, x.Until, err = bodyWindow(q.Since, q.Until); err != nil {
		return err
	}
	if q.Alert != "" {
		found, err := c.Store.Found(r.Context(), []string{q.Alert})
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return &problem{Status: http.StatusNotFound, Detail: ErrNoAlert.Error()}
		}
	}
	id, err := c.Tuning.StartExplain(x)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/api/v1/explanations/"+id)
	answer(w, http.StatusAccepted, map[string]string{"id": id})
	return nil
}

func noExplanation() error {
	return &problem{Status: http.StatusNotFound, Detail: "no explanation has this id, or it was long ago"}
}

func (c *console) showExplain(w http.ResponseWriter, r *http.Request, _ *caller) error {
	if err := newQuery(r.URL.RawQuery).err(); err != nil {
		return err
	}
	body, ok := c.Tuning.Explanation(r.PathValue("id"))
	if !ok {
		return noExplanation()
	}
	write(w, http.StatusOK, "application/json", appendPrintable(nil, append(body, '\n')))
	return nil
}

func (c *console) cancelExplain(w http.ResponseWriter, r *http.Request, _ *caller) error {
	if err := newQuery(r.URL.RawQuery).err(); err != nil {
		return err
	}
	if !c.Tuning.CancelExplain(r.PathValue("id")) {
		return noExplanation()
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
