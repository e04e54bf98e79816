package collector

import (
	"testing"
	"time"

	"weir/pipeline"
)

func TestClock(t *testing.T) {
	c := newClock(nil)
	f := func(in, want string) {
		t.Helper()
		got := "no time"
		if v, ok := c.any([]byte(in)); ok {
			got = v.Std().Format(time.RFC3339Nano)
		}
		if got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
	f("10/Oct/2025:13:55:36 +0200", "2025-10-10T11:55:36Z")
	f("10/Oct/2025:13:55:37 +0200", "2025-10-10T11:55:37Z")
	f("10/Oct/2025:13:55:37 +0100", "2025-10-10T12:55:37Z") // same date, other zone
	f("11/Oct/2025:00:00:00 -0930", "2025-10-11T09:30:00Z")
	f("[10/Oct/2025:13:55:36 +0200]", "2025-10-10T11:55:36Z")
	f("10/Oct/2025:13:55:36", "2025-10-10T13:55:36Z")
	f("10/Oct/2025:13:55:36 ", "2025-10-10T13:55:36Z")
	f("10/Oct/2025:13:55:36.125 +0200", "2025-10-10T11:55:36.125Z")
	f("29/Feb/2024:23:59:60 +0000", "2024-03-01T00:00:00Z")
	f("29/Feb/2025:00:00:00 +0000", "no time")
	f("00/Oct/2025:13:55:36 +0200", "no time")
	f("10/Oct/2025:24:55:36 +0200", "no time")
	f("10/Oct/2025:13:60:36 +0200", "no time")
	f("10/Oct/2025-13:55:36 +0200", "no time")
	f("10/Oct/2025:13:55:36 +02x0", "no time")
	f("10/Oct/2025:13:55:36  0200", "no time")
	f("1x/Oct/2025:13:55:36 +0200", "no time")
	f("2025-10-10T13:55:36+02:00", "2025-10-10T11:55:36Z")
	f("2025-10-10T13:55:36.123456789Z", "2025-10-10T13:55:36.123456Z")
	f("2025-10-10 13:55:36,5 +0200", "2025-10-10T11:55:36.5Z")
	f("2025-10-10t13:55:36z", "2025-10-10T13:55:36Z")
	f("2025/10/10 13:55:36", "2025-10-10T13:55:36Z")
	f("2025-10-10T13:55:36-08", "2025-10-10T21:55:36Z")
	f("2025-10-10 13:55:36 UTC", "2025-10-10T13:55:36Z")
	f("2025-10-10T13:55:36 tomorrow", "no time")
	f("2025-10/10T13:55:36Z", "no time")
	f("1760097336", "2025-10-10T11:55:36Z")
	f("1760097336.25", "2025-10-10T11:55:36.25Z")
	f("1760097336250", "2025-10-10T11:55:36.25Z")
	f("1760097336250000", "2025-10-10T11:55:36.25Z")
	f("1760097336250000999", "2025-10-10T11:55:36.25Z")
	f("1.760097336e9", "2025-10-10T11:55:36Z")
	f("1.76e+0009", "2025-10-09T08:53:20Z")
	f("12", "no time")
	f("-1760097336", "no time")
	f("1e99999", "no time")
	f("99999999999999999999999999", "no time")
	f("", "no time")
	f("-", "no time")

	// The whole calendar against the standard library's.
	for d := time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC); d.Year() < 2110; d = d.AddDate(0, 0, 1) {
		text := d.Add(45296 * time.Second).Format("02/Jan/2006:15:04:05 -0700")
		if v, ok := c.clf([]byte(text)); !ok || v != pipeline.TimeOf(d.Add(45296*time.Second)) {
			t.Fatalf("%s: %v %v", text, v.Std(), ok)
		}
	}
}

func TestClockLocation(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skipf("no time zones here: %v", err)
	}
	c := newClock(berlin)
	f := func(in, want string) {
		t.Helper()
		v, ok := c.any([]byte(in))
		if got := v.Std().Format(time.RFC3339); !ok || got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
	f("2025-03-30T01:59:59", "2025-03-30T00:59:59Z")
	f("2025-03-30T03:00:00", "2025-03-30T01:00:00Z")
	f("2025-10-26 02:30:00", "2025-10-26T00:30:00Z") // twice on that night: the first
	f("26/Oct/2025:03:00:00", "2025-10-26T02:00:00Z")
	f("2025-10-26 02:30:00Z", "2025-10-26T02:30:00Z")
}

func TestDecimal(t *testing.T) {
	f := func(in string, shift int, want int64, ok bool) {
		t.Helper()
		if got, gotOK := decimal([]byte(in), shift); got != want && ok || gotOK != ok {
			t.Errorf("decimal(%q, %d) = %d, %v; want %d, %v", in, shift, got, gotOK, want, ok)
		}
	}
	f("0.000", 6, 0, true)
	f("0.0123", 6, 12300, true)
	f("12", 3, 12000, true)
	f("999999", -3, 999, true)
	f("1.5e3", 0, 1500, true)
	f("15E-1", 0, 1, true)
	f(".5", 1, 5, true)
	f("5.", 0, 5, true)
	f("9223372036854775807", 0, 9223372036854775800, true) // 18 digits count
	f("9223372036854775807", 1, 0, false)
	f("1.2.3", 0, 0, false)
	f("1e", 0, 0, false)
	f("e5", 0, 0, false)
	f("+1", 0, 0, false)
	f("", 0, 0, false)
}
