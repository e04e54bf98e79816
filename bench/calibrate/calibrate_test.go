package calibrate

import (
	"math"
	"slices"
	"testing"

	"weir/detectors"
	"weir/pipeline"
)

func beta(a, b float64) detectors.Beta { return detectors.Beta{A: uint32(a * 256), B: uint32(b * 256)} }

func prior(a, b float64) detectors.Prior { return detectors.Prior{Beta: beta(a, b)} }

// tame are priors as a fit on an orderly site gives them.
func tame() *detectors.Baselines {
	b := detectors.ShippedBaselines()
	b.Probe, b.Object, b.Near, b.Login, b.LoginUser = prior(1, 19), prior(0.8, 19.2), prior(2.5, 17.5), prior(2, 18), prior(1, 19)
	b.Crawl, b.Volume = detectors.Rate{Mean: 12 * 256, Shape: 300}, detectors.Rate{Mean: 15 * 256, Shape: 200}
	b.Inject, b.Bytes.Sigma = prior(0.05, 19.95), 320
	// Zipf's law, as fitItems has it.
	const items, popular = 5000, 500
	weight := func(i int) float64 { return math.Pow(float64(i)+3, -1.1) }
	total, rest := 0.0, 0.0
	for i := range items {
		total += weight(i)
		if i >= popular {
			rest += weight(i)
		}
	}
	tail := func(w float64) pipeline.Nats {
		return pipeline.Nats(min(max(math.Log(total/items/w), -2), 2) * float64(pipeline.Nat))
	}
	b.Catalogue, b.RareTail = items, tail(rest/(items-popular))
	for i := range popular {
		b.Items = append(b.Items, detectors.ItemBaseline{Item: pipeline.Mix64(uint64(i), 1), Tail: tail(weight(i))})
	}
	slices.SortFunc(b.Items, func(x, y detectors.ItemBaseline) int {
		if x.Item < y.Item {
			return -1
		}
		return 1
	})
	return b
}

// rough is a site where everything fails more often, and much more is done, than
// the shipped priors say.
func rough() *detectors.Baselines {
	b := detectors.ShippedBaselines()
	b.Probe, b.Object, b.Near, b.Login, b.LoginUser = prior(20, 10), prior(20, 10), prior(20, 10), prior(30, 2), prior(20, 5)
	b.Share = prior(20, 20)
	b.Crawl, b.Volume = detectors.Rate{Mean: 900 * 256, Shape: 256}, detectors.Rate{Mean: 900 * 256, Shape: 256}
	b.Inject = prior(20, 10)
	b.Bytes.Mu += 5 * pipeline.Nat
	return b
}

// TestCalibration holds chance to what alerts say of it: clean clients that are
// drawn from the priors reach an e-value of x on one client-day in x / 2.5 at most,
// and no page.
func TestCalibration(t *testing.T) {
	for _, c := range []struct {
		name string
		b    *detectors.Baselines
	}{
		{"shipped priors", detectors.ShippedBaselines()},
		{"an orderly site", tame()},
	} {
		t.Run(c.name, func(t *testing.T) {
			curves, err := Measure(t.Context(), Options{Null: c.b, Days: 100_000, Seed: 1, Workers: 2})
			if err != nil {
				t.Fatal(err)
			}
			if len(curves) < 14 {
				t.Fatalf("only %d curves", len(curves))
			}
			for i := range curves {
				v := &curves[i]
				if v.Days != 100_000 || v.Symbols() == 0 {
					t.Fatalf("%s: %d client-days of %.1f symbols", v.Name, v.Days, v.Symbols())
				}
				odds, bound := v.Excess()
				t.Logf("%-32s band %+.2f decades off its odds, %+.2f off its bound; highest %.1f nats", v.Name, odds, bound, v.Highest.Float())
				if v.Off() > Allowed {
					t.Errorf("%s: chance exceeds what alerts say of it by %.2f decades beyond the band:%s", v.Name, v.Off(), v)
				}
				if v.Pages > 0 {
					t.Errorf("%s: %d of %d clean client-days reached page level", v.Name, v.Pages, v.Days)
				}
			}
		})
	}
}

// TestCalibrationBreaks: where the priors are wrong every curve must rise above the
// line, or TestCalibration could not fail.
func TestCalibrationBreaks(t *testing.T) {
	curves, err := Measure(t.Context(), Options{Null: detectors.ShippedBaselines(), Truth: rough(), Together: true, Days: 2000, Seed: 1, Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	for i := range curves {
		// Keys have no prior that could be wrong, and what news that comes together
		// adds up to is capped: the cases of key.misuse show that it rises.
		if v := &curves[i]; v.Off() <= Allowed && v.Name != "key.misuse" {
			t.Errorf("%s: clients far off the priors stay within the line (%.2f):%s", v.Name, v.Off(), v)
		}
	}
}

// TestPopulations: every detector has one.
func TestPopulations(t *testing.T) {
	for _, name := range detectors.Names() {
		if !slices.ContainsFunc(populations(), func(p population) bool { return p.detector == name }) {
			t.Errorf("%s has no population: nobody knows how far chance gets", name)
		}
	}
}

// TestMeasureRepeats: the same seed gives the same curves, whoever does the work.
func TestMeasureRepeats(t *testing.T) {
	var first []Curve
	for _, workers := range []int{1, 3} {
		curves, err := Measure(t.Context(), Options{Null: detectors.ShippedBaselines(), Days: 12_000, Seed: 5, Workers: workers})
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = curves
		} else if !slices.Equal(first, curves) {
			t.Errorf("%d workers measure something else", workers)
		}
	}
}
