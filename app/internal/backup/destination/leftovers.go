package destination

import (
	"fmt"
	"iter"
	"strings"
	"time"
)

// maxSwept bounds the names that a sweep reads. It is more than maxNames, so that a sweep can make
// a destination usable again.
const maxSwept = 3 * maxNames

// leftovers collects what failed backups left: the files of backups that have no manifest, and of
// which nothing has changed since olderThan. A manifest counts whatever its size is: it may have
// been damaged.
type leftovers struct {
	olderThan time.Time
	// ids has a bit for each ending of a backup's files, and the bit kept. The names of a directory
	// have no order, so it has every backup, in little memory.
	ids  map[string]uint8
	seen int
}

const kept = 1 << 7

// add adds a file, unless its name is not the name of a backup's file.
func (l *leftovers) add(e Entry) error {
	if l.seen++; l.seen > maxSwept {
		return &limitError{fmt.Sprintf("there are more than %d names", maxSwept), "delete the files of backups that have no manifest"}
	}
	id, ending, ok := split(e.Name)
	if !ok {
		return nil
	}
	if l.ids == nil {
		l.ids = map[string]uint8{}
	}
	found := uint8(1) << ending
	if endings[ending] == manifestEnding || !e.ModTime.Before(l.olderThan) {
		found |= kept
	}
	if _, known := l.ids[id]; !known {
		id = strings.Clone(id) // without the rest of the name
	}
	l.ids[id] |= found
	return nil
}

// names returns the names of the files that a sweep removes.
func (l *leftovers) names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for id, found := range l.ids {
			for i, ending := range endings {
				if found&kept == 0 && found&(1<<i) != 0 && !yield(id+ending) {
					return
				}
			}
		}
	}
}
