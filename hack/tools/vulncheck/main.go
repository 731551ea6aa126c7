// Vulncheck runs govulncheck over Go modules, and tells a vulnerability apart from a database that
// cannot be reached. The Makefile calls it.
//
// Usage: vulncheck DIRECTORY...
//
// GOVULNDB is the address of the vulnerability database, https://vuln.go.dev by default. Exit
// codes: 0 no known vulnerability, 3 vulnerabilities, 4 the database cannot be reached, 1 anything
// else.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/vuln/scan"
)

const (
	defaultDatabase = "https://vuln.go.dev"
	exitVulnerable  = 3
	exitUnreachable = 4
	patience        = 15 * time.Second
)

// errVulnerable is the end of a check that found something.
var errVulnerable = errors.New("the code calls functions with known vulnerabilities: update the modules that the report names")

// unreachableError says that nothing was checked.
type unreachableError struct {
	database string
	cause    error
}

func (e *unreachableError) Error() string {
	return fmt.Sprintf("the vulnerability database %s cannot be reached, so nothing was checked: %v; "+
		"run this again where that address can be reached, or set GOVULNDB to a mirror or to a local copy (file:///...)", e.database, e.cause)
}

func (e *unreachableError) Unwrap() error { return e.cause }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, cmp.Or(os.Getenv("GOVULNDB"), defaultDatabase), os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vulncheck:", err)
		os.Exit(exitCode(err))
	}
}

func exitCode(err error) int {
	var unreachable *unreachableError
	switch {
	case errors.As(err, &unreachable):
		return exitUnreachable
	case errors.Is(err, errVulnerable):
		return exitVulnerable
	default:
		return 1
	}
}

// run checks all modules, also after one with a vulnerability.
func run(ctx context.Context, database string, modules []string, out io.Writer) error {
	if len(modules) == 0 {
		return errors.New("name the directory of at least one module")
	}
	if err := reach(ctx, database); err != nil {
		return &unreachableError{database, err}
	}
	var result error
	for _, module := range modules {
		if _, err := fmt.Fprintf(out, "vulncheck: %s\n", module); err != nil {
			return err
		}
		cmd := scan.Command(ctx, "-db", database, "-C", module, "./...")
		cmd.Stdout, cmd.Stderr = out, out
		err := cmd.Start()
		if err == nil {
			err = cmd.Wait()
		}
		var exit interface{ ExitCode() int }
		switch {
		case err == nil:
		case errors.As(err, &exit) && exit.ExitCode() == exitVulnerable:
			result = errVulnerable
		default:
			return fmt.Errorf("check %s: %w", module, err)
		}
	}
	return result
}

// reach asks the database for the smallest of its files.
func reach(ctx context.Context, database string) error {
	address, err := url.Parse(database)
	if err != nil {
		return err
	}
	if address.Scheme == "file" {
		_, err := os.Stat(filepath.Join(filepath.FromSlash(address.Path), "index", "db.json"))
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.JoinPath("index", "db.json.gz").String(), nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", request.URL, response.Status)
	}
	return nil
}
