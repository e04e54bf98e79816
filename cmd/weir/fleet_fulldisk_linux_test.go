package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// smallDisk mounts a disk of some MiB at dir, until the test ends, or skips.
func smallDisk(t *testing.T, dir string, size int) (grow func(size int)) {
	t.Helper()
	mount := func(flags uintptr, size int) error {
		return unix.Mount("tmpfs", dir, "tmpfs", flags, fmt.Sprintf("size=%dm", size))
	}
	if err := mount(0, size); err != nil {
		t.Skipf("cannot mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return func(size int) {
		t.Helper()
		if err := mount(unix.MS_REMOUNT, size); err != nil {
			t.Fatal(err)
		}
	}
}

// collectGrowth is how much more memory a collector may take while nothing can be
// written.
const collectGrowth = 48 << 20

// TestFleetOnAFullDisk: the disk of a broker fills while collect writes, and the
// broker ends. Nothing is acknowledged until there is room again, collectors wait and
// take no more memory, one of them is killed meanwhile; then everything goes on, and
// nothing is lost or there twice.
func TestFleetOnAFullDisk(t *testing.T) {
	t.Parallel()
	t.Run("the only broker", func(t *testing.T) { fleetOnAFullDisk(t, 1) })
	t.Run("one of three", func(t *testing.T) { fleetOnAFullDisk(t, 3) })
}

func fleetOnAFullDisk(t *testing.T, n int) {
	dir := t.TempDir()
	disk := filepath.Join(dir, "1") // of the first broker
	if err := os.MkdirAll(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	grow := smallDisk(t, disk, 160)
	brokers := startBrokers(t, dir, n)
	log := busyLog(*killSeed, *busyLines)
	f := newFollowedFleet(t, text(log), "", brokers...)
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	for _, name := range []string{"collect", "detect,correlate,alert/1", "detect,correlate,alert/2"} {
		f.start(name)
	}
	f.awaitDeal(ctx, "weir-detect", 12, "detect,correlate,alert/1", "detect,correlate,alert/2")
	pushed := newPushedBus(ctx, t, f)
	if status := <-pushed.push(log[0]); status/100 != 2 {
		t.Fatalf("a push is answered with %d", status)
	}
	f.writeTo(f.behind(proberAddress, 40))
	f.awaitTaken(ctx, "detect,correlate,alert/1", "detect,correlate,alert/2")
	ballast := fillDisk(t, disk)
	if st, err := os.Stat(ballast); err != nil || os.Truncate(ballast, st.Size()-200<<10) != nil {
		t.Fatal("cannot leave a little room", err)
	}
	full := brokers[0]
	f.writeTo(f.behind(guesserAddress, 40))
	f.await(ctx, "the broker ends", func() error {
		if !full.Ended() {
			return errors.New("it runs")
		}
		return nil
	})
	if n == 1 {
		pushed.mustWait(ctx, log[1])
		before := f.list["collect"].resident(t)
		f.writeTo(f.behind(walkerAddress, 40))
		after := f.list["collect"].resident(t)
		t.Logf("while nothing could be written, collect had %d MiB, then %d", before>>20, after>>20)
		if after-before > collectGrowth {
			t.Errorf("collect grew from %d to %d MiB", before>>20, after>>20)
		}
		f.list["collect"].kill(t)
		f.start("collect")
	} else {
		f.awaitNamed(ctx, guesserAddress) // the other two do
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	grow(1024)
	again(ctx, t, "start the broker again", full.Start)
	f.writeAll()
	f.awaitAlerts(ctx, f.bus, &f.c, f.ref.alerts)
	sizes, passed := onBus(ctx, t, f.bus, &f.c)
	for i := range log {
		if n := sizes[int64(firstSize+i)]; n != 1 {
			t.Fatalf("line %d is on the bus %d times", i, n)
		}
	}
	t.Logf("%d lines, each once; %d entries of the sequence did not count", len(log), passed)
	pushed.mustHave(ctx, n)
	f.stopAll()
}

// pushedBus is a collector that is pushed lines, on a bus of its own on the same
// brokers.
type pushedBus struct {
	t       *testing.T
	f       *followedFleet
	c       busConfig
	d       *daemon
	waits   entry
	waiting <-chan int
}

func newPushedBus(ctx context.Context, t *testing.T, f *followedFleet) *pushedBus {
	t.Helper()
	dir := t.TempDir()
	tokens := writeFile(t, dir, "tokens", fmt.Appendf(nil, "edge %x\n", sha256.Sum256([]byte("s3cret"))))
	p := &pushedBus{t: t, f: f, c: f.c}
	p.c.Prefix = "pushed-"
	text := readText(t, f.config)
	text = strings.Replace(text[:strings.Index(text, "collect:")], "bus: {", "bus: {prefix: pushed-, ", 1)
	config := writeFile(t, dir, "pushed.yaml", fmt.Appendf(nil, "%scollect: [{push: {listen: \"127.0.0.1:0\", tokens_file: %q}}]\n", text, tokens))
	p.d = startDaemon(t, "collect", "-c", config, "--listen", "127.0.0.1:0")
	again(ctx, t, "it takes lines", func() error {
		if p.d.pushURL() == "" {
			return errors.New("not yet")
		}
		return nil
	})
	return p
}

// push sends a line and gives the answer's status, 0 for none.
func (p *pushedBus) push(line entry) <-chan int {
	out := make(chan int, 1)
	req, err := http.NewRequest(http.MethodPost, p.d.pushURL()+"auto", strings.NewReader(line.text))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer s3cret")
	req.Header.Set("Idempotency-Key", fmt.Sprintf("%x", sha256.Sum256([]byte(line.text))))
	go func() {
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			out <- 0
			return
		}
		_ = res.Body.Close()
		out <- res.StatusCode
	}()
	return out
}

// mustWait sends a line that gets no answer now.
func (p *pushedBus) mustWait(ctx context.Context, line entry) {
	p.t.Helper()
	p.waits, p.waiting = line, p.push(line)
	again(ctx, p.t, "the collector cannot write", func() error {
		if !strings.Contains(p.d.log.String(), "cannot write to the topic") {
			return errors.New("it did not try")
		}
		return nil
	})
	select {
	case status := <-p.waiting:
		p.t.Fatalf("a push that is not kept is answered with %d", status)
	default:
	}
}

// mustHave: what was pushed is there, each line once, and the one that waited is
// taken: at once, or when it is sent again because it waited too long for an answer.
func (p *pushedBus) mustHave(ctx context.Context, brokers int) {
	p.t.Helper()
	want := 1
	if brokers == 1 {
		want = 2
		status := <-p.waiting
		again(ctx, p.t, "the push that waited is taken", func() error {
			if status/100 == 2 {
				return nil
			}
			p.t.Logf("the push that waited is answered with %d, and sent again", status)
			if status != http.StatusServiceUnavailable {
				p.t.Fatal("want 503 for what is not known to be kept")
			}
			status = <-p.push(p.waits)
			return errors.New("sent again")
		})
	}
	sizes, _ := onBus(ctx, p.t, p.f.bus, &p.c)
	if len(sizes) != want || sizes[firstSize] != 1 || want > 1 && sizes[firstSize+1] != 1 {
		p.t.Errorf("of %d pushed lines there are %v", want, sizes)
	}
	p.d.stop(p.t)
}
