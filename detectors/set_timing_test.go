package detectors

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"weir/pipeline"
)

// stream is ordered traffic as a busy site has it: 200,000 requests in twenty
// minutes by 20,000 clients, a few of whom make most of them; assets, pages,
// items, orders of accounts, logins, misses, and one in a hundred requests by
// scanners.
func stream() []pipeline.Ordered {
	const n, clients = 200_000, 20_000
	rng := rand.New(rand.NewPCG(9, 9))
	who, item := rand.NewZipf(rng, 1.2, 40, clients-1), rand.NewZipf(rng, 1.1, 3, 20_000)
	agents := make([]string, 300)
	for i := range agents {
		agents[i] = fmt.Sprintf("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.%d (KHTML, like Gecko) Chrome/1%d.0 Safari/537.36", i%40, i)
	}
	scan := []string{"/.env", "/.git/config", "/wp-login.php", "/backup.zip", "/phpinfo.php", "/admin/config.php"}
	block := &pipeline.Block{Source: "access.log", Requests: make([]pipeline.Request, n)}
	batch := make([]pipeline.Ordered, n)
	for i := range batch {
		c := who.Uint64()
		at := caseStart.Add(time.Duration(i) * 6 * time.Millisecond)
		r := &block.Requests[i]
		*r = pipeline.Request{
			Time: at, Effective: at, Line: int64(i) + 1, Bytes: int64(rng.IntN(20_000)), Duration: -1, Kind: pipeline.PrincipalIP,
			Status: 200, Method: "GET", Agent: agents[c%300], Referer: "https://shop.example/",
		}
		r.Address[10], r.Address[11], r.Address[12], r.Address[13], r.Address[14], r.Address[15] = 0xff, 0xff, 10, byte(c>>16), byte(c>>8), byte(c)
		r.Owner = r.Address.Owner()
		switch x := rng.IntN(100); {
		case x < 35:
			r.Path = fmt.Sprintf("/assets/app-%d.js", rng.IntN(40))
		case x < 75:
			r.Path = fmt.Sprintf("/api/v1/items/%d", item.Uint64()+1)
		case x < 85:
			r.Path, r.Query = "/category/"+agents[rng.IntN(20)][60:66], "page="+fmt.Sprint(1+rng.IntN(4))
		case x < 95:
			r.Path = fmt.Sprintf("/api/v1/orders/%d", 1000+rng.IntN(500_000))
			r.Account = fmt.Sprintf("u%d", c)
			r.Kind, r.Owner = pipeline.PrincipalAccount, pipeline.HashPrincipal(pipeline.PrincipalAccount, r.Account)
		case x < 97:
			r.Method, r.Path, r.Flags = "POST", "/login", pipeline.FlagLogin
			if rng.IntN(8) == 0 {
				r.Status = 401
			}
		case x < 99:
			r.Path, r.Status = fmt.Sprintf("/old/page%d.html", rng.IntN(300)), 404
		default:
			r.Path, r.Status, r.Referer = scan[rng.IntN(len(scan))], 404, ""
			r.Address[12], r.Address[13], r.Address[14], r.Address[15] = 203, 0, 113, byte(rng.IntN(20))
			r.Owner = r.Address.Owner()
		}
		r.Seal()
		batch[i] = pipeline.Ordered{Request: r, Block: block}
	}
	return batch
}

// processAll takes the stream through s and moves it on in time.
func processAll(s *Set, found []pipeline.Finding, batch []pipeline.Ordered) []pipeline.Finding {
	for part := range slices.Chunk(batch, 8192) {
		found = s.Process(found[:0], part)
	}
	span := batch[len(batch)-1].Effective.Sub(batch[0].Effective) + time.Second
	for i := range batch {
		batch[i].Effective = batch[i].Effective.Add(span)
	}
	return found
}

// BenchmarkProcess reports what a request costs in a warm set, all detectors
// together, none, and each alone.
func BenchmarkProcess(b *testing.B) {
	batch := stream()
	e := fitted(b, batch)
	run := func(name string, workers int, keep func(string) bool, of ...pipeline.SuppressionMatch) {
		b.Run(name, func(b *testing.B) {
			s := newSet(b, Config{Workers: workers, Watch: pipeline.NewProxyWatch()}, e)
			for i, entry := range slices.Backward(s.entries) {
				if !keep(entry.name) {
					s.entries, s.detectors = slices.Delete(s.entries, i, i+1), slices.Delete(s.detectors, i, i+1)
				}
			}
			for i, m := range of {
				s.Suppress(covering(fmt.Sprint(i), m))
			}
			found := processAll(s, nil, batch)
			b.ReportAllocs()
			for b.Loop() {
				found = processAll(s, found, batch)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(batch)), "ns/request")
		})
	}
	run("all", 1, func(string) bool { return true })
	run("all/aside", 1, func(string) bool { return true }, pipeline.SuppressionMatch{})
	run("all/aside=auth", 1, func(string) bool { return true }, pipeline.SuppressionMatch{Detector: "auth"})
	run("all/aside=one", 1, func(string) bool { return true }, pipeline.SuppressionMatch{Address: "192.0.2.1"})
	run("all/workers=2", 2, func(string) bool { return true })
	run("none", 1, func(string) bool { return false })
	for _, name := range Names() {
		run(name, 1, func(s string) bool { return s == name })
	}
}

// BenchmarkFit reports what learning from a request costs.
func BenchmarkFit(b *testing.B) {
	batch := stream()
	b.ReportAllocs()
	for b.Loop() {
		fitted(b, batch)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(batch)), "ns/request")
}
