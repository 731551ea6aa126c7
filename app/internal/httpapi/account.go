package httpapi

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/notes"
)

// reauthentication is the body of calls that ask for nothing but password and second factor again.
type reauthentication struct {
	Password string `json:"password"`
	Code     string `json:"code"`
}

func (h *handlers) changePassword(c *gin.Context) {
	var body struct {
		CurrentPassword string `json:"current_password"`
		NewPassword     string `json:"new_password"`
		Code            string `json:"code"`
	}
	if !decode(c, &body) {
		return
	}
	shown := accounts.Reauthentication{Password: body.CurrentPassword, Code: body.Code}
	if err := h.Accounts.ChangePassword(c.Request.Context(), identity(c), c.ClientIP(), shown, body.NewPassword); err != nil {
		h.failReauthentication(c, err)
		return
	}
	c.JSON(http.StatusOK, gin.H{"message": "Password changed"})
}

type sessionAnswer struct {
	ID        string    `json:"id"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
	Current   bool      `json:"current"`
}

func (h *handlers) listSessions(c *gin.Context) {
	list, err := h.Accounts.Sessions(c.Request.Context(), identity(c))
	if err != nil {
		h.failWith(c, err)
		return
	}
	answer := make([]sessionAnswer, len(list))
	for i, s := range list {
		answer[i] = sessionAnswer{s.Identity.Session, s.CreatedAt, s.ExpiresAt, s.Identity == identity(c)}
	}
	c.JSON(http.StatusOK, gin.H{"sessions": answer})
}

func (h *handlers) revokeSession(c *gin.Context) {
	id := c.Param("id")
	if !canonicalUUID(id) {
		fail(c, http.StatusNotFound, "Session not found")
		return
	}
	if err := h.Accounts.Revoke(c.Request.Context(), identity(c), id); err != nil {
		h.failWith(c, err)
		return
	}
	c.JSON(http.StatusOK, gin.H{"message": "Session revoked"})
}

// deleteAccount asks for password and second factor again, because it cannot be undone.
func (h *handlers) deleteAccount(c *gin.Context) {
	var body reauthentication
	if !decode(c, &body) {
		return
	}
	if err := h.Accounts.DeleteAccount(c.Request.Context(), identity(c), c.ClientIP(), accounts.Reauthentication(body)); err != nil {
		h.failReauthentication(c, err)
		return
	}
	c.JSON(http.StatusOK, gin.H{"message": "Account deleted"})
}

// exportAccount streams everything of the user's as NDJSON: a line for the account, one for each
// note, and one for the end, whose absence tells that the export was cut off.
func (h *handlers) exportAccount(c *gin.Context) {
	user, err := h.Accounts.User(c.Request.Context(), identity(c))
	if err != nil {
		h.failWith(c, err)
		return
	}
	// A slow reader of many notes is not cut off by the server's timeout for one answer.
	control := http.NewResponseController(c.Writer)
	extend := func() error { return control.SetWriteDeadline(time.Now().Add(exportStall)) }
	c.Header("Content-Type", "application/x-ndjson")
	c.Header("Content-Disposition", `attachment; filename="securenotes-export.ndjson"`)
	c.Status(http.StatusOK)
	lines := json.NewEncoder(c.Writer)
	write := func(line any) error {
		if err := extend(); err != nil {
			return err
		}
		return lines.Encode(line)
	}
	err = write(gin.H{"type": "account", "id": user.ID, "username": user.Username, "created_at": user.CreatedAt})
	count := 0
	if err == nil {
		err = h.Notes.Export(c.Request.Context(), identity(c), func(n notes.Note) error {
			count++
			return write(struct {
				Type string `json:"type"`
				noteAnswer
			}{"note", newNoteAnswer(n)})
		})
	}
	if err == nil {
		err = write(gin.H{"type": "end", "notes": count})
	}
	if err != nil {
		// The status is sent already: what is left is not to end as if all were there.
		h.Log.Error("export cut off", "error", err.Error(), "request_id", c.GetString(requestIDKey))
		c.Abort()
	}
}
