package httpapi

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/securenotes/securenotes/app/internal/notes"
)

// entityTag is how a revision is written (RFC 9110, section 8.8.3).
func entityTag(revision int64) string { return `"` + strconv.FormatInt(revision, 10) + `"` }

func setETag(c *gin.Context, revision int64) { c.Header("ETag", entityTag(revision)) }

// ifMatch is the revision of the note that the request is for, as If-Match has it (RFC 9110, section 13.1.1); 0
// when there is no such header, or it is *. Where it names one revision nothing is asked: the write tells whether
// it is the note's. When the note has none of those that are named it has answered.
func (h *handlers) ifMatch(c *gin.Context, id string) (revision int64, ok bool) {
	lines := c.Request.Header.Values("If-Match")
	if len(lines) == 0 {
		return 0, true
	}
	// What is no list of tags is none that matches.
	tags, anyTag, _ := entityTags(strings.Join(lines, ","))
	if anyTag {
		return 0, true
	}
	if revision, ok = onlyRevision(tags); ok {
		return revision, true
	}
	current, err := h.Notes.Revision(c.Request.Context(), identity(c), id)
	if err == nil && !slices.Contains(tags, entityTag(current)) {
		err = notes.ErrStale
	}
	if err != nil {
		h.failWith(c, err)
		return 0, false
	}
	return current, true
}

// onlyRevision is the revision of the only tag, if it is one of ours.
func onlyRevision(tags []string) (int64, bool) {
	if len(tags) != 1 {
		return 0, false
	}
	revision, err := strconv.ParseInt(strings.Trim(tags[0], `"`), 10, 64)
	// Tags are opaque: another way to write the number is another tag.
	return revision, err == nil && revision > 0 && revision < math.MaxInt64 && tags[0] == entityTag(revision)
}

// entityTags reads the value of If-Match: * alone, or a list of tags, of which the weak ones are left out, because
// they match nothing there. Without ok it is neither. The server's limit of a header bounds the list.
func entityTags(value string) (tags []string, anyTag, ok bool) {
	const space = " \t"
	if strings.Trim(value, space) == "*" {
		return nil, true, true
	}
	elements := 0
	for rest := strings.TrimLeft(value, space+","); rest != ""; rest = strings.TrimLeft(rest, space+",") {
		opaque, weak := strings.CutPrefix(rest, "W/")
		if !strings.HasPrefix(opaque, `"`) {
			return nil, false, false
		}
		size := strings.IndexFunc(opaque[1:], func(r rune) bool { return r <= ' ' || r == '"' || r == 0x7f }) + 1
		if size == 0 || opaque[size] != '"' {
			return nil, false, false
		}
		if !weak {
			tags = append(tags, opaque[:size+1])
		}
		elements++
		rest = strings.TrimLeft(opaque[size+1:], space)
		if rest != "" && rest[0] != ',' {
			return nil, false, false
		}
	}
	return tags, false, elements > 0
}
