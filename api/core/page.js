
// What the pages for people have in common. A page has forms #ask and #second, and each of its steps is a .step.
const at = id => document.getElementById(id)
const GRANT = 'urn:apictl:params:oauth:grant-type:'
let tokens = {}
let waiting = null

async function call(method, path, content = {}) {
  const { form, json } = content
  const headers = tokens.access_token ? { Authorization: `Bearer ${tokens.access_token}` } : {}
  if (json) headers['Content-Type'] = 'application/json'
  const body = json ? JSON.stringify(json) : form && new URLSearchParams(form)
  let answer
  try {
    answer = await fetch(path, { method, headers, body, credentials: 'omit' })
  } catch {
    throw new Error('The server does not answer. Try again.')
  }
  if (answer.status === 401 && tokens.refresh_token && !content.again) {
    // The access token's time is over; somebody has looked at the page for a quarter of an hour.
    const form = { grant_type: 'refresh_token', refresh_token: tokens.refresh_token }
    tokens = await call('POST', '/v1/auth/token', { form, again: true })
    return call(method, path, { ...content, again: true })
  }
  const text = await answer.text()
  let said = {}
  try { said = text ? JSON.parse(text) : {} } catch { /* not ours: somebody's in between */ }
  if (!answer.ok) {
    const words = [said.detail, said.cause, said.hint].filter(Boolean).map(sentence).join(' ') || `The server answered ${answer.status}.`
    throw Object.assign(new Error(words), { waiting: said.mfa_token })
  }
  return said
}

const sentence = words => words[0].toUpperCase() + words.slice(1) + (/[.?!]$/.test(words) ? '' : '.')

// A page's own session ends with it; its refresh token is good for that when the access token is not any more.
async function leave(more) {
  if (!tokens.refresh_token) return
  const body = new URLSearchParams({ token: tokens.refresh_token })
  tokens = {}
  await fetch('/v1/auth/revoke', { method: 'POST', body, credentials: 'omit', ...more }).then(answer => answer.text()).catch(() => {})
}
addEventListener('pagehide', () => leave({ keepalive: true }))

async function busy(element, work) {
  const buttons = element.querySelectorAll('button')
  buttons.forEach(button => { button.disabled = true })
  at('problem').textContent = ''
  try { await work() } catch (error) {
    at('problem').textContent = error.message
  } finally { buttons.forEach(button => { button.disabled = false }) }
}

function show(shown) {
  document.querySelectorAll('.step').forEach(step => { step.hidden = step.id !== shown })
}

// Has the browser make or use a passkey: `method` is create or get, `options` are the server's.
async function passkey(method, options) {
  const site = options.rpId ?? options.rp.id
  const read = globalThis.PublicKeyCredential?.[method === 'create' ? 'parseCreationOptionsFromJSON' : 'parseRequestOptionsFromJSON']
  if (!read) throw new Error(`This browser offers no passkeys here. Bring it up to date, and open this page at ${site}.`)
  try {
    const credential = await navigator.credentials[method]({ publicKey: read.call(PublicKeyCredential, options) })
    return credential.toJSON()
  } catch (error) {
    throw new Error({
      InvalidStateError: 'This passkey is enrolled already.',
      NotAllowedError: 'No passkey was used. Try again, or go on without.',
      SecurityError: `Passkeys are good at ${site} only: open this page there.`,
    }[error.name] ?? `The passkey did not work: ${error.message}`)
  }
}

// Calls `entered` when somebody has logged in by #ask, and by #second if that is needed.
function onLogin(entered) {
  async function logIn(form) {
    tokens = await call('POST', '/v1/auth/token', { form })
    at('password').value = at('otp').value = ''
    await entered()
  }

  async function byPasskey(form, grant) {
    const { options } = await call('POST', '/v1/auth/passkey', { form })
    const credential = JSON.stringify(await passkey('get', options))
    await logIn({ ...form, grant_type: GRANT + grant, credential })
  }

  at('ask').addEventListener('submit', event => {
    event.preventDefault()
    busy(at('ask'), async () => {
      try {
        await logIn({ grant_type: 'password', username: at('email').value, password: at('password').value })
      } catch (error) {
        if (!error.waiting) throw error
        waiting = error.waiting
        show('second')
        at('otp').focus()
      }
    })
  })

  at('second').addEventListener('submit', event => {
    event.preventDefault()
    busy(at('second'), () => {
      const typed = at('otp').value.trim()
      const kind = /^[0-9 ]+$/.test(typed) ? 'otp' : 'recovery_code'
      return logIn({ grant_type: `${GRANT}mfa`, mfa_token: waiting, [kind]: typed })
    })
  })

  at('again').addEventListener('click', () => { at('problem').textContent = at('otp').value = ''; show('ask') })
  at('passkey').addEventListener('click', () => busy(at('ask'), () => byPasskey({}, 'passkey')))
  at('second-passkey').addEventListener('click', () => busy(at('second'), () => byPasskey({ mfa_token: waiting }, 'mfa')))
}


// A page to which a link in a mail leads: #begin asks for the mail (at `asks`), #choose uses its link (at `uses`).
function byLink(asks, uses, body, words) {
  const token = location.hash.slice(1)
  // Neither a bookmark nor whoever looks over a shoulder has it.
  history.replaceState(null, '', location.pathname)
  const post = (route, json) => call('POST', `/v1/auth/${route}`, { json })
  const done = said => { at('done').textContent = said; show('done') }
  show(token ? 'choose' : 'begin')

  if (asks) at('begin').addEventListener('submit', event => {
    event.preventDefault()
    busy(at('begin'), async () => done((await post(asks, { email: at('email').value })).detail))
  })
  at('choose').addEventListener('submit', event => {
    event.preventDefault()
    busy(at('choose'), async () => done(words(await post(uses, body(token)))))
  })
}
