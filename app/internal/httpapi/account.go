package httpapi

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/securenotes/securenotes/app/internal/accounts"
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

// revokeSession ends a session: the own one at once, another one with password and second factor.
func (h *handlers) revokeSession(c *gin.Context) {
	id := c.Param("id")
	if !canonicalUUID(id) {
		fail(c, http.StatusNotFound, "Session not found")
		return
	}
	own := id == identity(c).Session
	var body reauthentication
	if without := own && c.Request.ContentLength == 0; !without && !decode(c, &body) {
		return
	}
	var err error
	if own {
		err = h.Accounts.Logout(c.Request.Context(), identity(c))
	} else {
		err = h.Accounts.Revoke(c.Request.Context(), identity(c), c.ClientIP(), accounts.Reauthentication(body), id)
	}
	if err != nil {
		h.failReauthentication(c, err)
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
