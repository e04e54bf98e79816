package detectors

import (
	"weir/pipeline"
)

// failWatch watches the share of logins that fail at one endpoint, over all
// clients: what many sources with a few tries each cannot hide from, however
// many they are (Javed & Paxson, CCS'13). Windows hold a fixed number of logins, so
// that power does not depend on the time of day; each is compared with what is
// usual at its hour of the week; what exceeds it by more than 2.5 times the noise
// beyond chance adds up (CUSUM). Pointer-free; shares are in 1/2^20.
type failWatch struct {
	n, k    int64 // of the running window
	since   pipeline.Time
	windows int64

	level int64 // usual share, in the long run
	day   [24]habit
	week  [168]habit
	extra int64 // squared noise beyond chance, the mean over taught windows, 1/2^40
	noisy int64 // windows behind extra
	perHr int64 // windows an hour, smoothed, 1/256

	sum     int64 // the CUSUM
	near    int64 // the same with less slack: it leaves zero earlier, which tells the onset
	rise    rise  // since near last left zero
	peak    rise  // the rise when the sum was highest
	high    int64 // that sum, not capped
	raw     int64 // the sum since near left zero, not capped
	alarm   bool
	alarmed pipeline.Time
	limit   int64 // what sum must reach, as of the last window
}

// habit is by how much an hour differs from the level above it.
type habit struct {
	off int64
	n   int64 // windows
}

// rise is what was seen since the CUSUM left zero.
type rise struct {
	onset    pipeline.Time
	n, k     int64
	expected int64 // failures expected, 1/2^20
	windows  int64
	_        int64
}

const (
	shareOne = 1 << 20
	// windowLogins is the size of a window; windowMany where there are more than
	// a million a day.
	windowLogins = 500
	windowMany   = 2000
	// watchWarm is how many windows teach before one may alarm.
	watchWarm = 10
	// shippedExtra is the squared noise assumed of a site never seen, 2 points,
	// with the weight of so many windows or hours; extraFloor is 0.2 points.
	shippedExtra = (shareOne / 50) * (shareOne / 50)
	shippedNoisy = 20
	shippedHours = 6
	extraFloor   = shareOne / 500
	// frozenFor is how long an alarm keeps what is usual as it was; a share that
	// stays for longer is taken for the new usual, and said so.
	frozenFor = 7 * 24 * 3600e6
)

// take counts one login whose outcome is known. It reports whether a window
// ended.
func (w *failWatch) take(at pipeline.Time, failed bool) bool {
	if w.n == 0 {
		w.since = at
	}
	w.n++
	if failed {
		w.k++
	}
	size := int64(windowLogins)
	if w.perHr*24*windowLogins > 1_000_000*256 {
		size = windowMany
	}
	if w.n < size {
		return false
	}
	w.window(w.since, at, w.n, w.k)
	w.n, w.k = 0, 0
	return true
}

// usual is the share expected at time at.
func (w *failWatch) usual(at pipeline.Time) int64 {
	how := hourOfWeek(at)
	return min(max(w.level+w.day[how%24].off+w.week[how].off, shareOne/500), shareOne*99/100)
}

// hourOfWeek counts from Thursday 00:00 UTC, as the epoch does.
func hourOfWeek(at pipeline.Time) int64 {
	h := int64(at) / 3600e6 % 168
	if h < 0 {
		h += 168
	}
	return h
}

// sigma is the noise of a window's share beyond chance.
func (w *failWatch) sigma() int64 {
	shipped := max(shippedNoisy, shippedHours*w.perHr/256)
	v := (shippedExtra*shipped + w.extra*w.noisy) / (shipped + w.noisy)
	return max(isqrt(v), extraFloor)
}

// window takes a whole window: n logins from one time to another, k of them
// failed.
func (w *failWatch) window(from, to pipeline.Time, n, k int64) {
	mid := from + (to-from)/2
	share := k * shareOne / n
	if w.windows == 0 {
		w.level = share
	}
	usual := w.usual(mid)
	chance := usual * (shareOne - usual) / n // squared, 1/2^40
	over := share - usual
	sigma := w.sigma()
	slack := sigma * 5 / 2
	w.limit = w.height(chance, sigma)
	w.windows++
	if w.windows > watchWarm {
		w.add(from, to, n, k, usual, over-slack, over-sigma)
	}
	taught := !w.alarm && w.sum <= w.limit/2 || w.alarm && to-w.alarmed > frozenFor
	if w.alarm && taught {
		// What lasts for a week is how it is now.
		w.level += (w.rise.k*shareOne - w.rise.expected) / w.rise.n
		w.alarm, w.sum, w.near = false, 0, 0
	}
	if !taught {
		return
	}
	w.pace(to - from)
	w.learn(mid, share, chance, over)
}

func (w *failWatch) add(from, to pipeline.Time, n, k, usual, inc, nearInc int64) {
	if w.near == 0 {
		w.rise = rise{onset: from}
		w.raw, w.high = 0, 0
	}
	w.rise.n += n
	w.rise.k += k
	w.rise.expected += usual * n
	w.rise.windows++
	w.raw += inc
	w.near = min(max(0, w.near+nearInc), 4*w.limit)
	w.sum = min(max(0, w.sum+inc), 2*w.limit)
	if w.raw > w.high {
		w.high, w.peak = w.raw, w.rise
	}
	if w.sum >= w.limit && !w.alarm {
		w.alarm, w.alarmed = true, to
	}
	if w.sum == 0 {
		w.alarm = false
	}
}

// pace smooths the number of windows an hour.
func (w *failWatch) pace(took pipeline.Time) {
	rate := 256 * 3600_000_000 / max(int64(took), 1_000_000)
	rate = min(rate, 256*3600)
	n := min(w.windows, max(24, 24*w.perHr/256))
	w.perHr += (rate - w.perHr) / max(n, 1)
}

// learn moves what is usual towards the window's share: the level over about ten
// days, hours of the day on what the level leaves, hours of the week on what
// those leave. Hours need days, not windows: neighbours in one hour say the same.
func (w *failWatch) learn(mid pipeline.Time, share, chance, over int64) {
	perHr := max(w.perHr, 256) / 256
	how := hourOfWeek(mid)
	d, h := &w.day[how%24], &w.week[how]
	rest := share - w.level
	w.level += rest / min(w.windows, 240*perHr)
	rest -= d.off
	d.n = min(d.n+1, 30*perHr)
	d.off += rest / (d.n + 2*perHr)
	rest -= h.off
	h.n = min(h.n+1, 12*perHr)
	h.off += rest / (h.n + 4*perHr)
	if w.windows > watchWarm {
		w.noisy = min(w.noisy+1, 60*24*perHr)
		w.extra += (over*over - chance - w.extra) / w.noisy
	}
}

// height is how far the CUSUM must climb: so that chance gets there at most once
// in 90 days (TestWatchRunLength). With drift -k and variance v a window, the
// maximum over m windows of a random walk held at zero is about v/2k ln m (Siegmund
// 1985); noise that lasts for hours adds what it can carry beyond 2.5 sigma.
func (w *failWatch) height(chance, sigma int64) int64 {
	slack := sigma * 5 / 2
	quarter := uint64(max(w.perHr, 64)*24*90/256) + 2
	chancePart := (chance + sigma*sigma) / (2 * slack)
	chancePart = chancePart * int64(ln(quarter*watchOdds)) / int64(pipeline.Nat)
	return chancePart + sigma*watchCarry*(max(w.perHr, 64)+256)/256/4
}

const (
	watchOdds  = 4
	watchCarry = 8
)

// estimate is how many of r's logins were malicious, assuming that malicious
// ones rarely work: T (F-F_L)/(1-F_L) (Herley & Schechter, NDSS'19), with a 90 %
// interval from chance and from noise beyond it that lasts for hours.
func (w *failWatch) estimate(r rise, until pipeline.Time) pipeline.Estimate {
	if r.n == 0 {
		return pipeline.Estimate{}
	}
	usual := r.expected / r.n
	clean := max(shareOne-usual, shareOne/100)
	excess := r.k*shareOne - r.expected // 1/2^20
	sigma := w.sigma()
	spanHours := max(int64(until-r.onset)/3600e6, 1)
	lasting := min(shareOne, noiseHours*shareOne/spanHours) // of the noise's variance
	sd := isqrt(r.n*usual/shareOne*clean/shareOne*16) / 4
	drift := sigma * r.n / shareOne * isqrt(lasting*shareOne) / shareOne
	off := isqrt(sd*sd + drift*drift)
	// 1.645, and a little for the onset's choice; below more, because what raises an
	// alarm is the attack and noise that went with it.
	high, low := off*7/4, off*11/4
	toCount := func(failures int64) int64 { return min(max(failures*shareOne/clean, 0), r.n) }
	return pipeline.Estimate{Attempts: toCount(excess / shareOne), Low: toCount(excess/shareOne - low), High: toCount(excess/shareOne + high)}
}

// noiseHours is for how long noise beyond chance is taken to last, twice over.
const noiseHours = 12

// isqrt is the integer square root of x.
func isqrt(x int64) int64 {
	if x <= 0 {
		return 0
	}
	r := int64(1) << 31
	for range 64 {
		next := (r + x/r) / 2
		if next >= r {
			break
		}
		r = next
	}
	return r
}
