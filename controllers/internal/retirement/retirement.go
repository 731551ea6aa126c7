// Package retirement decides when the versions of a master key stop decrypting and when they are
// destroyed, from the lists in the status of a SecureNotes. Its functions are pure: they read and
// change the lists that they are given.
//
// A pending retirement names the first version that stays usable and when the older versions stop
// decrypting. Once that has happened it becomes a past retirement, which is kept until trim has
// destroyed the versions below it.
package retirement

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

const (
	// Max is how many entries each of the two lists holds.
	Max = 64
	// Retry is how long a failed retirement waits.
	Retry = 15 * time.Minute
	// TrimRetry is the delay before a trim is tried again after its first failure. It doubles with
	// each failure. A trim is not urgent, and each attempt unwraps every owner's key.
	TrimRetry = time.Hour
	// MaxTrimRetry is the longest wait of a failed trim.
	MaxTrimRetry = 24 * time.Hour
)

// Recorded reports whether the older versions have been retired for version to or a later one, or
// their retirement is pending.
func Recorded(key *v1alpha1.MasterKeyStatus, to int64) bool {
	if key == nil {
		return false
	}
	pending := slices.ContainsFunc(key.PendingRetirements, func(p v1alpha1.PendingRetirement) bool { return p.ToVersion >= to })
	return pending || Done(key, to)
}

// Done reports whether the versions below to no longer decrypt.
func Done(key *v1alpha1.MasterKeyStatus, to int64) bool {
	return key != nil && key.MinDecryptionFloor >= to
}

// NotBefore returns the time at which a new retirement is due: at, or later. A retirement covers
// every older version, so it must not come before one that was promised earlier.
func NotBefore(list []v1alpha1.PendingRetirement, at time.Time) time.Time {
	for _, entry := range list {
		if entry.Due.After(at) {
			at = entry.Due.Time
		}
	}
	return at
}

// Add appends a pending retirement. It replaces the newest entry of a full list, whose versions
// then stay readable for longer than promised, never for shorter.
func Add(list []v1alpha1.PendingRetirement, entry v1alpha1.PendingRetirement) []v1alpha1.PendingRetirement {
	if len(list) >= Max {
		list = list[:Max-1]
	}
	return append(list, entry)
}

// AddPast records that every version below to was retired at now, unless that is recorded already.
// From a full list it drops the entry with the smallest gap to its successor, the latest of equals:
// the successor covers the same versions a little later.
func AddPast(list []v1alpha1.Retirement, to int64, now time.Time) []v1alpha1.Retirement {
	if slices.ContainsFunc(list, func(r v1alpha1.Retirement) bool { return r.ToVersion == to }) {
		return list
	}
	list = append(slices.Clone(list), v1alpha1.Retirement{ToVersion: to, Time: metav1.NewTime(now)})
	slices.SortFunc(list, func(a, b v1alpha1.Retirement) int { return cmp.Compare(a.ToVersion, b.ToVersion) })
	if len(list) <= Max {
		return list
	}
	gap := func(i int) time.Duration { return list[i+1].Time.Sub(list[i].Time.Time) }
	dropped := 0
	for i := range list[:len(list)-1] {
		if gap(i) <= gap(dropped) {
			dropped = i
		}
	}
	return slices.Delete(list, dropped, dropped+1)
}

// Due returns the newest pending retirement that is due, which covers every older one, and how long
// until the next of the others is due; 0 if none is.
func Due(list []v1alpha1.PendingRetirement, now time.Time) (due *v1alpha1.PendingRetirement, wait time.Duration) {
	return newestDue(list, now, func(p *v1alpha1.PendingRetirement) (int64, time.Time, bool) { return p.ToVersion, p.Due.Time, true })
}

// DueTrim returns the newest past retirement that is after old, whose retry time has come, and for
// which destroys reports that versions are left to destroy. wait is as for [Due].
func DueTrim(list []v1alpha1.Retirement, now time.Time, after time.Duration, destroys func(to int64) bool) (due *v1alpha1.Retirement, wait time.Duration) {
	return newestDue(list, now, func(r *v1alpha1.Retirement) (int64, time.Time, bool) {
		at := r.Time.Add(after)
		if retry := r.RetryTime; retry != nil && retry.After(at) {
			at = retry.Time
		}
		return r.ToVersion, at, destroys(r.ToVersion)
	})
}

func newestDue[T any](list []T, now time.Time, read func(*T) (to int64, at time.Time, wanted bool)) (due *T, wait time.Duration) {
	newest := int64(0)
	for i := range list {
		to, at, wanted := read(&list[i])
		switch left := at.Sub(now); {
		case left > 0 && (wait == 0 || left < wait):
			wait = left
		case left <= 0 && wanted && (due == nil || to > newest):
			due, newest = &list[i], to
		}
	}
	return due, wait
}

// Restart restarts the time of every past retirement whose versions still decrypt above floor, or
// did until now. Somebody who lowers the floor has restored something, and backups of it use these
// versions.
func Restart(list []v1alpha1.Retirement, floor int64, now time.Time) {
	for i := range list {
		// A status that changed with every pass would cause another pass, endlessly.
		if list[i].ToVersion > floor && now.Sub(list[i].Time.Time) > time.Minute {
			list[i].Time = metav1.NewTime(now)
		}
	}
}

// Postpone records why a retirement failed, and when it is tried again with another Job.
func Postpone(entry *v1alpha1.PendingRetirement, now time.Time, why string) (wait time.Duration) {
	_, entry.Message = nextAttempt(&entry.Attempt, &entry.JobUID, &entry.JobDigest, why)
	entry.Due = metav1.NewTime(now.Add(Retry))
	return Retry
}

// PostponeTrim records why nothing was destroyed, and when it is tried again with another Job. All
// of list wait, because what blocks one trim blocks all of them.
func PostponeTrim(list []v1alpha1.Retirement, entry *v1alpha1.Retirement, now time.Time, reason, why string) (wait time.Duration) {
	attempt, message := nextAttempt(&entry.Attempt, &entry.JobUID, &entry.JobDigest, why)
	entry.Reason, entry.Message = reason, message
	wait = min(TrimRetry<<min(attempt-1, 10), MaxTrimRetry)
	for i := range list {
		list[i].RetryTime = new(metav1.NewTime(now.Add(wait)))
	}
	return wait
}

// nextAttempt returns the number of the attempt that failed and a message about it, and starts the
// next one, whose Job is not created yet.
func nextAttempt(attempt *int32, jobUID, jobDigest *string, why string) (failed int32, message string) {
	failed = max(*attempt, 1)
	*attempt, *jobUID, *jobDigest = failed+1, "", ""
	return failed, fmt.Sprintf("attempt %d: %s", failed, why)
}
