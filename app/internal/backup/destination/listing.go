package destination

import (
	"cmp"
	"fmt"
	"slices"
)

// maxBackups bounds the backups in one destination.
const maxBackups = 10_000

// maxNames bounds the names that a listing reads, with those that are not of backups.
const maxNames = 100_000

// listing collects the files of backups.
type listing struct {
	entries        []Entry
	backups, names int
}

// add adds a file, unless its name is not the name of a backup's file. Only manifests count as
// backups, so that what failed backups left does not stop the next one.
func (l *listing) add(e Entry) error {
	if l.names++; l.names > maxNames {
		return &limitError{fmt.Sprintf("there are more than %d names", maxNames),
			"give backups a directory or a prefix of their own, and delete the files of backups that have no manifest"}
	}
	_, ending, ok := split(e.Name)
	if !ok {
		return nil
	}
	if endings[ending] == manifestEnding {
		l.backups++
	}
	if l.backups > maxBackups {
		return &limitError{fmt.Sprintf("there are more than %d backups", maxBackups), "delete the oldest and those that are not yours, or use another directory or prefix, one for each SecureNotes"}
	}
	l.entries = append(l.entries, e)
	return nil
}

// sorted returns the files by name.
func (l *listing) sorted() []Entry {
	slices.SortFunc(l.entries, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
	return l.entries
}
