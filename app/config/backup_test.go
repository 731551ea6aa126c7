package config

import (
	"strings"
	"testing"
	"time"
)

// validBackup returns a configuration with backups.
func validBackup(keep *Keep) *Config {
	c := valid()
	c.Backup = &Backup{
		SecureNotesUID: "uid", Recipients: []string{"age1" + strings.Repeat("q", 58)},
		Destination: Destination{Directory: &Directory{Path: "/backups"}}, Keep: keep,
	}
	return c
}

// TestStartedAt checks that the file has the time that was set, and none if it was not.
func TestStartedAt(t *testing.T) {
	for _, want := range []time.Time{{}, time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)} {
		c := validBackup(nil)
		c.Backup.StartedAt = want
		raw, err := Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(raw)
		if err != nil || !got.Backup.StartedAt.Equal(want) || strings.Contains(string(raw), "startedAt") == want.IsZero() {
			t.Errorf("error %v, got %+v from %s, want %s", err, got.Backup, raw, want)
		}
	}
}

// TestKeep checks the bounds of backup.keep, and that the file has what was set.
func TestKeep(t *testing.T) {
	const hour = Duration(time.Hour)
	for name, tc := range map[string]struct {
		keep *Keep
		// want is in the error; empty: it is valid.
		want string
	}{
		"unset":              {keep: nil},
		"a count":            {keep: &Keep{Count: 1}},
		"the highest count":  {keep: &Keep{Count: 1000}},
		"an age":             {keep: &Keep{Age: hour}},
		"the highest age":    {keep: &Keep{Age: 87_600 * hour}},
		"both":               {keep: &Keep{Count: 7, Age: 30 * 24 * hour}},
		"neither":            {&Keep{}, "backup.keep: needs count, age or both"},
		"a negative count":   {&Keep{Count: -1, Age: hour}, "backup.keep.count: must be 1 to 1000, not -1"},
		"too high a count":   {&Keep{Count: 1001}, "backup.keep.count:"},
		"a negative age":     {&Keep{Count: 1, Age: -hour}, "backup.keep.age: must be 1h0m0s to 87600h0m0s, not -1h0m0s"},
		"too short an age":   {&Keep{Age: hour - 1}, "backup.keep.age:"},
		"too long an age":    {&Keep{Age: 87_600*hour + 1}, "backup.keep.age:"},
		"the lowest of both": {keep: &Keep{Count: 1, Age: hour}},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := Marshal(validBackup(tc.keep))
			if tc.want != "" {
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("got %v, want %q", err, tc.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			if (got.Backup.Keep == nil) != (tc.keep == nil) || tc.keep != nil && *got.Backup.Keep != *tc.keep {
				t.Errorf("got %+v, want %+v", got.Backup.Keep, tc.keep)
			}
			for field, set := range map[string]bool{"keep:": tc.keep != nil, "count:": tc.keep != nil && tc.keep.Count != 0, "age:": tc.keep != nil && tc.keep.Age != 0} {
				if written := strings.Contains(string(raw), field); written != set {
					t.Errorf("the file has %s: %t, want %t", field, written, set)
				}
			}
		})
	}
}
