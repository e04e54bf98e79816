package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"weir/bench/calibrate"
	"weir/detectors"
	"weir/pipeline"
)

// fewDays measures a little of two worlds: one as the priors say, and one of which
// everything fails more often.
func fewDays(t *testing.T) []calibrated {
	t.Helper()
	wrong := detectors.ShippedBaselines()
	wrong.Probe.A, wrong.Probe.B = 20*256, 10*256
	var out []calibrated
	for name, truth := range map[string]*detectors.Baselines{"right": nil, "wrong": wrong} {
		curves, err := calibrate.Measure(t.Context(), calibrate.Options{Null: detectors.ShippedBaselines(), Truth: truth, Days: 4000, Seed: 3, Workers: 2})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, calibrated{name, "#000", curves})
	}
	return out
}

// TestEvalCalibration: the plot is well-formed and has a panel for each curve, and
// a wrong prior fails the run.
func TestEvalCalibration(t *testing.T) {
	both := fewDays(t)
	svg := plotCalibration(both)
	panels := 0
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the plot is no XML: %v", err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "g" {
			panels++
		}
	}
	if panels != len(both[0].curves) || strings.Contains(string(svg), "NaN") || strings.Contains(string(svg), "Inf") {
		t.Errorf("%d panels of %d curves, or a number that is none:\n%.500s", panels, len(both[0].curves), svg)
	}
	for _, c := range both {
		e := evaluation{calibrated: []calibrated{c}}
		if err := e.checkCalibration(); (err != nil) != (c.name == "wrong") {
			t.Errorf("%s priors: %v", c.name, err)
		} else if err != nil && !strings.Contains(err.Error(), "probe.path") {
			t.Errorf("wrong priors of probe.path: %v", err)
		}
	}
}

// TestOddsAreTheCurves: an alert's odds are what the calibration holds its curves to.
func TestOddsAreTheCurves(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run(context.Background(), []string{"analyze", "--quiet", "--output", "json", filepath.Join("testdata", "sample.log.gz")}, nil, &out, &errs); code != exitOK {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	looked := 0
	for line := range strings.Lines(out.String()) {
		var a pipeline.Alert
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatal(err)
		}
		if a.Score.Odds.Unit != "client-day" || a.Score.Nats > 34 {
			continue // beyond 1e15 odds say no more
		}
		looked++
		if a.Score.Nats < float64(calibrate.OddsFrom)*math.Ln10-.01 {
			t.Errorf("%s says odds at %.2f nats, where the curve is not held to them", a.Detector, a.Score.Nats)
		}
		if r := a.Score.Odds.OneIn * calibrate.Stated / math.Exp(a.Score.Nats); r < 0.94 || r > 1.06 {
			t.Errorf("%s: %.2f nats, one in %g: not what curves are held to", a.Detector, a.Score.Nats, a.Score.Odds.OneIn)
		}
	}
	if looked == 0 {
		t.Error("no alert says odds")
	}
}
