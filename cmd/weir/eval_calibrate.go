package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html"
	"math"
	"os"
	"path/filepath"
	"time"

	"weir/bench/calibrate"
	"weir/detectors"
)

// calibrated is what clean clients came to under one edition.
type calibrated struct {
	name   string
	colour string
	curves []calibrate.Curve
}

// evalCalibrationSeed is the seed of the clean clients.
const evalCalibrationSeed = 2026

// calibrate draws clean client-days from the shipped priors and from those that the
// shop's traffic fits.
func (e *evaluation) calibrate(ctx context.Context) error {
	fitted, err := detectors.DecodeBaselines(e.editions["shop"].Detectors)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		name, colour string
		b            *detectors.Baselines
	}{
		{"fitted", "#1f5fbf", fitted},
		{"shipped", "#c2571a", detectors.ShippedBaselines()},
	} {
		told := time.Now()
		curves, err := calibrate.Measure(ctx, calibrate.Options{
			Null: c.b, Days: e.o.clientDays, Seed: evalCalibrationSeed, Workers: e.o.workers,
			Progress: func(name string, days int64) {
				if !e.o.quiet && (time.Since(told) > 5*time.Second || days >= e.o.clientDays) {
					told = time.Now()
					fmt.Fprintf(e.stderr, "calibration, %s priors: %s, %d of %d client-days, %s\n", c.name, name, days, e.o.clientDays, time.Since(e.start).Round(time.Second))
				}
			},
		})
		if err != nil {
			return err
		}
		e.calibrated = append(e.calibrated, calibrated{c.name, c.colour, curves})
	}
	return nil
}

const calibrationPlot = "calibration.svg"

// reportCalibration writes the table; the plot goes beside the report.
func (e *evaluation) reportCalibration(p func(string, ...any)) {
	if len(e.calibrated) == 0 {
		return
	}
	p("## Calibration\n\n")
	p("Clean clients, %d client-days for each line, each client watched for %d days. Its habits are drawn once from the priors: the share that misses or fails, ", e.o.clientDays, calibrate.DaysEach)
	p("how much it does a day; *fitted* priors are learned from the shop's traffic, *shipped* ones are those of a weir that has seen nothing. ")
	p("Chance must not reach page level, and an e-value of x on one client-day in x / %.1f at most: that is what an alert's odds say. ", calibrate.Stated)
	p("*Off the odds* is how far the 95 %% band of the curve comes to lie above that, in decades at the worst x from 1e%d on; *off the bound* is the same at any x, for what the test promises for as many questions as a day answers (symbols / x) or the odds if they are more; – where nobody came. ", calibrate.OddsFrom)
	p("More than %.1f off either fails the run, and a test of 100,000 client-days. *One in* is how many client-days it takes to reach 1e4 and 1e6, where the odds are one in 4,000 and in 400,000; with > nobody did, and the band ends there.\n\n", calibrate.Allowed)
	if e.o.out != "" {
		p("![calibration](%s)\n\n", calibrationPlot)
	}
	p("| evidence | priors | client-days | pages | most nats | off the odds | off the bound | one in, at 1e4 | one in, at 1e6 | what is drawn |\n|---|---|---|---|---|---|---|---|---|---|\n")
	off := func(n float64) string {
		if math.IsInf(n, 0) {
			return "–"
		}
		return fmt.Sprintf("%+.2f", n)
	}
	for i := range e.calibrated[0].curves {
		for _, c := range e.calibrated {
			v := &c.curves[i]
			odds, bound := v.Excess()
			p("| %s | %s | %d | %d | %.1f | %s | %s | %s | %s | %s |\n", v.Name, c.name, v.Days, v.Pages, v.Highest.Float(), off(odds), off(bound), oneIn(v, 4), oneIn(v, 6), v.Says)
		}
	}
	p("\nWhat no prior describes is not drawn: word-list paths, crawlers' names, size parameters that nobody else sends. ")
	p("Nor are clients that no prior describes: they are the look-alikes, and counted apart.\n\n")
}

func oneIn(v *calibrate.Curve, at int) string {
	days, reached := v.OneIn(at)
	if !reached {
		return fmt.Sprintf("> %.0f", days)
	}
	return fmt.Sprintf("%.0f", days)
}

// writePlot writes the plot of the curves beside the report.
func (e *evaluation) writePlot() error {
	if len(e.calibrated) == 0 || e.o.out == "" {
		return nil
	}
	return os.WriteFile(filepath.Join(filepath.Dir(e.o.out), calibrationPlot), plotCalibration(e.calibrated), 0o644)
}

// The plot has a small panel for each detector.
const (
	panelWidth, panelHeight, panelColumns = 250, 190, 4
	plotLeft, plotTop, plotRight, plotEnd = 38, 26, 10, 30
)

// plotCalibration draws, for each detector, the share of client-days whose highest
// e-value was at least x, both on logarithmic axes, with its 95 % band; dashed is
// one in x.
func plotCalibration(of []calibrated) []byte {
	const lowest = -7.0 // of log10 P
	const most = 8.0    // of log10 x
	var b bytes.Buffer
	p := func(format string, a ...any) { fmt.Fprintf(&b, format, a...) }
	n := len(of[0].curves)
	rows := (n + panelColumns - 1) / panelColumns
	width, height := panelWidth*panelColumns, panelHeight*rows+40
	p("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"11\">\n", width, height, width, height)
	p("<title>How often clean clients reach an e-value of x, by client-day</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n")
	for i := range n {
		x0, y0 := float64(i%panelColumns*panelWidth+plotLeft), float64(i/panelColumns*panelHeight+plotTop)
		w, h := float64(panelWidth-plotLeft-plotRight), float64(panelHeight-plotTop-plotEnd)
		px := func(x float64) float64 { return x0 + w*(x-1)/(most-1) }
		py := func(share float64) float64 {
			return y0 + h*min(1, math.Log10(max(share, 1e-12))/lowest)
		}
		p("<g><text x=\"%.0f\" y=\"%.0f\" font-weight=\"bold\">%s</text>\n", x0, y0-8, html.EscapeString(of[0].curves[i].Name))
		p("<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"none\" stroke=\"#999\"/>\n", x0, y0, w, h)
		for d := 2; d <= 8; d += 2 {
			p("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\" fill=\"#444\">1e%d</text>\n", px(float64(d)), y0+h+14, d)
		}
		for d := 0; d >= -6; d -= 2 {
			p("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\" fill=\"#444\">1e%d</text>\n", x0-4, py(math.Pow10(d))+4, d)
		}
		p("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#444\" stroke-dasharray=\"4 3\"/>\n", px(1), py(0.1), px(7), py(1e-7))
		for _, c := range of {
			var up, down, line string
			for _, pt := range c.curves[i].Points() {
				if pt.Log10 > most {
					break
				}
				up += fmt.Sprintf("%.1f,%.1f ", px(pt.Log10), py(pt.High))
				down = fmt.Sprintf("%.1f,%.1f ", px(pt.Log10), py(pt.Low)) + down
				if pt.Reached > 0 {
					line += fmt.Sprintf("%.1f,%.1f ", px(pt.Log10), py(pt.P))
				}
			}
			p("<polygon points=\"%s%s\" fill=\"%s\" fill-opacity=\".15\"/>\n", up, down, c.colour)
			p("<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\"/>\n", line, c.colour)
		}
		p("</g>\n")
	}
	y := panelHeight*rows + 20
	x := plotLeft
	for _, c := range of {
		p("<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\" stroke=\"%s\" stroke-width=\"2\"/><text x=\"%d\" y=\"%d\">%s priors</text>\n", x, y-4, x+24, y-4, c.colour, x+30, y, c.name)
		x += 140
	}
	p("<text x=\"%d\" y=\"%d\">across: x; up: share of clean client-days whose highest e-value is at least x, with its 95 %% band; dashed: one in x; an alert's odds say x / 2.5</text>\n</svg>\n", x, y)
	return b.Bytes()
}

// checkCalibration fails the run when chance breaks its promise.
func (e *evaluation) checkCalibration() error {
	var problems []error
	for _, c := range e.calibrated {
		for i := range c.curves {
			if v := &c.curves[i]; v.Pages > 0 || v.Off() > calibrate.Allowed {
				problems = append(problems, fmt.Errorf("%s, %s priors: %d pages, %.2f decades off (%g are allowed)", v.Name, c.name, v.Pages, v.Off(), calibrate.Allowed))
			}
		}
	}
	return errors.Join(problems...)
}
