package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"weir/console"
	"weir/storage"
	"weir/storage/sqlite"
)

const userHelp = `Usage: weir user add NAME --role ROLE [--role ROLE...] [--display TEXT]
       weir user list
       weir user passwd NAME
       weir user disable NAME
       weir user enable NAME
       weir user roles NAME --role ROLE [--role ROLE...]

Who signs in to the console, also while weir runs. add and passwd ask for the
password twice; from a pipe they read it from the first line. passwd and disable
end the user's sessions. From the first user on nobody is served without a token
or a session, on loopback too. Everything here goes into the audit.

  weir user add -c weir.yaml ada --role analyst

Roles are those of weir token: viewer, analyst, engineer, auditor, admin, feed.

Flags:
  -c FILE            configuration: where the store is
  --store FILE       the store (default weir.db)
  --role ROLE        what it may; repeatable
  --display TEXT     how people call it

Exit: 0 done; 1 failed; 2 usage.
`

// userFlags are the flags of weir user.
type userFlags struct {
	config, store, display string
	roles                  listFlag
}

func runUser(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var f userFlags
	fs := flag.NewFlagSet("user", flag.ContinueOnError)
	fs.StringVar(&f.config, "c", "", "")
	fs.StringVar(&f.store, "store", "", "")
	fs.StringVar(&f.display, "display", "", "")
	fs.Var(&f.roles, "role", "")
	rest, code, done := parseFlags(fs, userHelp, args, stdout, stderr)
	if done {
		return code
	}
	wanted := map[string]int{"add": 2, "list": 1, "passwd": 2, "disable": 2, "enable": 2, "roles": 2}
	if len(rest) == 0 || len(rest) != wanted[rest[0]] {
		fmt.Fprint(stderr, userHelp)
		return exitUsage
	}
	cfg, err := loadConfig(f.config)
	if err == nil {
		if f.store != "" {
			cfg.Store.Path = f.store
		}
		u := userCommand{f, stdin, stderr}
		switch rest[0] {
		case "add":
			err = u.add(ctx, cfg, rest[1])
		case "list":
			err = listUsers(ctx, cfg, stdout)
		default:
			err = u.change(ctx, cfg, rest[0], rest[1])
		}
	}
	if err != nil {
		fmt.Fprintf(stderr, "weir user %s: %v\n", rest[0], err)
		return exitFailed
	}
	return exitOK
}

// userCommand is weir user add, passwd, disable, enable or roles.
type userCommand struct {
	userFlags
	stdin  io.Reader
	stderr io.Writer
}

func (c *userCommand) add(ctx context.Context, cfg *config, name string) error {
	roles, err := console.ParseRoles(c.roles)
	if err != nil {
		return fmt.Errorf("--role: %w", err)
	}
	if said := console.CheckUserName(name); said != "" {
		return errors.New(said)
	}
	password, err := c.password(name)
	if err != nil {
		return err
	}
	u := console.User{
		Name: name, Display: c.display, Kind: console.KindLocal, Roles: roles.Names(), Hash: console.HashPassword(password),
		Creator: shellUser().Name, Created: timeOf(time.Now()),
	}
	return withAccess(cfg, func(db *sqlite.DB) error {
		by, err := shellEntry("user.create", userTarget(name), nil, console.AuditedUser(&u))
		if err == nil {
			err = db.CreateUser(ctx, storage.User(u), by)
		}
		if err == nil {
			fmt.Fprintf(c.stderr, "user %s in %s for %s\n", name, cfg.Store.Path, strings.Join(u.Roles, ", "))
		}
		return err
	})
}

func userTarget(name string) *console.AuditTarget {
	return &console.AuditTarget{Kind: "user", IDs: []string{name}}
}

// change does passwd, disable, enable and roles.
func (c *userCommand) change(ctx context.Context, cfg *config, what, name string) error {
	return withAccess(cfg, func(db *sqlite.DB) error {
		stored, ok, err := db.User(ctx, name)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("%w: %q; weir user list has them", storage.ErrNoUser, name)
		}
		before := console.User(stored)
		after, action, end := before, "user.change", false
		switch what {
		case "passwd":
			if after.Kind != console.KindLocal {
				return fmt.Errorf("the password of %s is kept by the provider that vouches for it", name)
			}
			password, err := c.password(after.Name)
			if err != nil {
				return err
			}
			after.Hash, action, end = console.HashPassword(password), "user.password", true
		case "disable":
			after.Disabled, end = timeOf(time.Now()), true
		case "enable":
			after.Disabled = 0
		case "roles":
			roles, err := console.ParseRoles(c.roles)
			if err != nil {
				return fmt.Errorf("--role: %w", err)
			}
			after.Roles = roles.Names()
		}
		by, err := shellEntry(action, userTarget(after.Name), console.AuditedUser(&before), console.AuditedUser(&after))
		if err == nil {
			err = db.ChangeUser(ctx, storage.User(after), end, "", by)
		}
		if err == nil {
			fmt.Fprintf(c.stderr, "%s of user %s: done\n", what, after.Name)
		}
		return err
	})
}

// password asks for one, twice on a terminal; else it is the first line.
func (c *userCommand) password(user string) (password string, err error) {
	if f, ok := c.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		ask := func(what string) string {
			fmt.Fprintf(c.stderr, "%s: ", what)
			var text []byte
			if err == nil {
				text, err = term.ReadPassword(int(f.Fd()))
			}
			fmt.Fprintln(c.stderr)
			return string(text)
		}
		password = ask("password of " + user)
		if again := ask("again"); err == nil && again != password {
			err = errors.New("the two are not the same")
		}
	} else {
		var line string
		if line, err = bufio.NewReader(io.LimitReader(c.stdin, 4096)).ReadString('\n'); errors.Is(err, io.EOF) {
			err = nil
		}
		password = strings.TrimRight(line, "\r\n")
	}
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	if said := console.CheckPassword(user, password); said != "" {
		return "", errors.New(said)
	}
	return password, nil
}

func listUsers(ctx context.Context, cfg *config, stdout io.Writer) error {
	return withAccess(cfg, func(db *sqlite.DB) error {
		list, err := db.Users(ctx)
		if err != nil {
			return err
		}
		t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "NAME\tDISPLAY\tKIND\tROLES\tCREATED\tBY\tSIGNED IN\tSTATE")
		for _, u := range list {
			state := "good"
			if u.Disabled != 0 {
				state = "disabled " + dateOf(u.Disabled, "")
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", u.Name, u.Display, u.Kind, strings.Join(u.Roles, ","), dateOf(u.Created, "-"), u.Creator, dateOf(u.Seen, "never"), state)
		}
		return t.Flush()
	})
}
