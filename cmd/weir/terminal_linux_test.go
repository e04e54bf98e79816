package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal returns both sides of a new terminal.
func openTerminal(t *testing.T) (screen, terminal *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no terminals here: %v", err)
	}
	t.Cleanup(func() { screen.Close() })
	if err := unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Skipf("cannot unlock a terminal: %v", err)
	}
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Skipf("cannot name a terminal: %v", err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("cannot open a terminal: %v", err)
	}
	t.Cleanup(func() { terminal.Close() })
	return screen, terminal
}

// TestColour: on a terminal there is some, unless NO_COLOR says not to; in a
// pipe there is none.
func TestColour(t *testing.T) {
	t.Parallel()
	path := writeFile(t, t.TempDir(), "access.log", text(trafficLog(*killSeed)))
	f := func(noColor string, want bool) {
		t.Helper()
		screen, terminal := openTerminal(t)
		cmd := weirCommand(t, "analyze", path)
		cmd.Env = append(cmd.Env, "NO_COLOR="+noColor, "TERM=xterm")
		cmd.Stdout, cmd.Stderr = terminal, terminal
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		terminal.Close()
		shown, _ := io.ReadAll(screen) // ends with an error when the other side closes
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%v: %s", err, shown)
		}
		if !strings.Contains(string(shown), guesserAddress) {
			t.Fatalf("the terminal shows no alert: %q", shown)
		}
		if got := strings.Contains(string(shown), "\x1b["); got != want {
			t.Errorf("NO_COLOR=%q: colour %v, want %v: %.300q", noColor, got, want, shown)
		}
	}
	f("", true)
	f("1", false)
	piped := weirCommand(t, "analyze", path)
	piped.Env = append(piped.Env, "NO_COLOR=")
	out, err := piped.CombinedOutput()
	if err != nil || strings.Contains(string(out), "\x1b") {
		t.Errorf("in a pipe: %v, %.300q", err, out)
	}
}
