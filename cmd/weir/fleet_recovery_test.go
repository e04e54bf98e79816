package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

//nolint:gochecknoglobals // a flag of the test binary
var recoverClients = flag.Int("recoverclients", 10_000, "clients whose state is restored")

// manyClients is an hour of n clients in order, each with some requests that leave
// evidence: a dead link, a login that failed, an order that is refused; then, for ten
// minutes, a tenth of them come again; then somebody probes.
func manyClients(n int) (hour, again, attack []byte) {
	start := time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)
	var b bytes.Buffer
	say := func(at time.Time, address, request string, status int, agent string) {
		fmt.Fprintf(&b, "%s - - [%s] \"%s HTTP/1.1\" %d 1234 \"-\" %q\n", address, at.Format("02/Jan/2006:15:04:05 -0700"), request, status, agent)
	}
	client := func(i int) string { return fmt.Sprintf("10.%d.%d.%d", i>>16&255, i>>8&255, i&255) }
	agents := []string{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) Firefox/148.0", "Mozilla/5.0 (Macintosh) Safari/605.1.15", "Mozilla/5.0 (X11; Linux x86_64) Chrome/149.0"}
	part := func(from time.Time, span time.Duration, count int) []byte {
		b.Reset()
		for i := range count {
			at, who, agent := from.Add(span*time.Duration(i)/time.Duration(count)), client(i%n), agents[i%3]
			switch i / n {
			case 1:
				say(at, who, fmt.Sprintf("GET /gone/page-%d", i), 404, agent)
			case 2:
				say(at, who, "POST /login", 401, agent)
			case 3:
				say(at, who, fmt.Sprintf("GET /api/orders/%d", i%n), 403, agent)
			default:
				say(at, who, fmt.Sprintf("GET /products/item-%d", i*7919%500), 200, agent)
			}
		}
		return slices.Clone(b.Bytes())
	}
	hour = part(start, time.Hour, 5*n)
	again = part(start.Add(time.Hour), 10*time.Minute, n/10)
	b.Reset()
	for i := range 200 {
		say(start.Add(70*time.Minute+time.Duration(i)*time.Second), proberAddress, fmt.Sprintf("GET /old%d.php", i), 404, "curl/8.9")
	}
	return hour, again, slices.Clone(b.Bytes())
}

// TestFleetRecovers measures what it takes to go on after the owner of all slices was
// killed: to restore the state of so many clients, and to be current again.
func TestFleetRecovers(t *testing.T) {
	t.Parallel()
	brokers := startBrokers(t, t.TempDir(), 1)
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Minute)
	defer cancel()
	hour, more, attack := manyClients(*recoverClients)
	dir := t.TempDir()
	path := filepath.Join(dir, "access.log")
	whole := slices.Concat(hour, more, attack)
	f := &followedFleet{c: busConfigOf(brokers...), log: newFeed(t, path, whole, *killSeed)}
	f.log.append(t, 1+bytes.IndexByte(whole, '\n'))
	f.fleetProcesses = &fleetProcesses{
		t: t, config: fleetConfig(t, dir, f.c, fmt.Sprintf("collect: [{file: %q}]", path)), args: []string{"--listen", "127.0.0.1:0"}, list: map[string]*daemon{},
	}
	f.bus = openBus(t, f.c)
	const first, second = "detect,correlate/1", "detect,correlate/2"
	for _, name := range []string{"collect", first, "alert"} {
		f.start(name)
	}
	f.awaitDeal(ctx, "weir-detect", f.c.Partitions, first)
	f.writeTo(len(hour))
	f.awaitTaken(ctx, first)
	f.awaitKept(ctx)
	f.writeTo(len(hour) + len(more))
	f.awaitTaken(ctx, first)
	before := f.list[first].resident(t)
	f.list[first].kill(t)
	killed := time.Now()
	delete(f.list, first)
	f.start(second)
	f.writeTo(len(whole))
	restored := regexp.MustCompile(`slices are restored.*"position": ([1-9]\d*), "took": ([0-9.]+)`)
	said := func(what *regexp.Regexp) (list []string) {
		f.await(ctx, what.String(), func() error {
			if list = what.FindStringSubmatch(f.list[second].log.String()); list == nil {
				return errors.New("not yet")
			}
			return nil
		})
		return list
	}
	said(regexp.MustCompile(`slices are dealt\s+\{"group": "weir-detect", "generation": \d+, "slices": \[0,`))
	dealt := time.Now()
	took := said(restored)
	f.awaitNamed(ctx, proberAddress)
	current := time.Since(dealt)
	t.Logf("%d clients, %d MiB resident: killed, dealt anew after %.1f s; from then on all %d slices of one process were restored within %s s, and an attack that began meanwhile was told after %.1f s",
		*recoverClients, before>>20, dealt.Sub(killed).Seconds(), f.c.Partitions, took[2], current.Seconds())
	f.stopAll()
	f.readSlices(ctx)
}

// awaitKept waits until a checkpoint that began after now is there.
func (f *followedFleet) awaitKept(ctx context.Context) {
	f.t.Helper()
	ends := func() (list []int64) {
		for i := range f.c.Partitions {
			_, behind, err := f.bus.Bounds(ctx, f.c.topics().state, i)
			if err != nil {
				f.t.Fatal(err)
			}
			list = append(list, behind)
		}
		return list
	}
	first := ends()
	last, since := first, time.Now()
	f.await(ctx, "a checkpoint", func() error {
		now := ends()
		if !slices.Equal(now, last) {
			last, since = now, time.Now()
		}
		for i := range now {
			if now[i] == first[i] {
				return fmt.Errorf("slice %d is as it was", i)
			}
		}
		if time.Since(since) < 2*time.Second {
			return errors.New("it goes on")
		}
		return nil
	})
}

// readSlices measures each slice by itself.
func (f *followedFleet) readSlices(ctx context.Context) {
	f.t.Helper()
	var longest, all time.Duration
	total := 0
	for i := range f.c.Partitions {
		begun := time.Now()
		s, err := f.bus.OpenState(ctx, f.c.topics().state, i, fmt.Sprintf("detect/%d", i), "test")
		if err != nil {
			f.t.Fatal(err)
		}
		_, chunks, ok := s.Checkpoint()
		if !ok {
			f.t.Fatalf("slice %d has no checkpoint", i)
		}
		size := 0
		for n := range chunkCommon + 1 {
			data, err := chunks(n)
			if err != nil {
				f.t.Fatal(err)
			}
			size += len(data)
		}
		took := time.Since(begun)
		s.Close()
		longest, all, total = max(longest, took), all+took, total+size
	}
	held, err := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(f.log.path)), "*", "1", "data", f.c.topics().state+"-*", "*.log"))
	if err != nil {
		f.t.Fatal(err)
	}
	var disk int64
	for _, name := range held {
		if st, err := os.Stat(name); err == nil && !strings.Contains(name, "offsets") {
			disk += st.Size()
		}
	}
	f.t.Logf("one slice by itself is read in %d ms at most (%d ms on average); %d slices are %d MiB, %d MiB on the broker", longest.Milliseconds(),
		all.Milliseconds()/int64(f.c.Partitions), f.c.Partitions, total>>20, disk>>20)
	if total < *recoverClients*50 {
		f.t.Errorf("%d bytes of state for %d clients", total, *recoverClients)
	}
}
