package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"

	"weir/pipeline"
)

// campaign shows one campaign, as the console's page.
func (c *alertsCommand) campaign(id string) error {
	var body json.RawMessage
	if err := c.api.ask(http.MethodGet, "/api/v1/campaigns/"+url.PathEscape(id), nil, &body); err != nil {
		return err
	}
	if c.output == "json" {
		return jsonLinesTo(c.stdout, []json.RawMessage{body})
	}
	var v struct {
		ID, Title, Severity    string
		Detectors, Endpoints   []string
		Alerts, Open, Requests int64
		Principals             int
		Succeeded              *int64
		First, Last            pipeline.Time
		Members                []struct {
			ID, Severity, Status, Title string
		}
		Timeline []struct {
			Time        pipeline.Time
			Alert, Text string
		}
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return fmt.Errorf("read the campaign: %w", err)
	}
	fmt.Fprintf(c.stdout, "%s campaign %s: %s\n", strings.ToUpper(printable(v.Severity)), printable(v.ID), printable(v.Title))
	fmt.Fprintf(c.stdout, "  %d alerts, %d open, of %d principals; %d requests, succeeded %s; %s to %s\n",
		v.Alerts, v.Open, v.Principals, v.Requests, numberOr(v.Succeeded), dateOf(v.First, "-"), dateOf(v.Last, "-"))
	fmt.Fprintf(c.stdout, "  by %s at %s\n", printable(strings.Join(v.Detectors, ", ")), printable(strings.Join(v.Endpoints, ", ")))
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	for _, e := range v.Timeline {
		fmt.Fprintf(t, "  %s\t%s\t%s\n", dateOf(e.Time, "-"), printable(e.Alert), printable(e.Text))
	}
	for _, m := range v.Members {
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\n", strings.ToUpper(printable(m.Severity)), printable(m.Status), printable(m.ID), printable(m.Title))
	}
	return t.Flush()
}
