// The frame around the pages: where to go, who sits here, and what keys do.
import { lazy, Suspense, useEffect, useState, type ComponentType } from "react";
import { Button } from "react-aria-components";
import { ask } from "./api/client";
import { useMe, useSession } from "./api/session";
import { setPrefs, usePrefs } from "./lib/prefs";
import { Link, navigate, usePath } from "./lib/router";
import { useShortcuts } from "./lib/shortcuts";
import { Toasts } from "./lib/toast";
import AlertPage from "./pages/alert";
import AlertsPage from "./pages/alerts";
import { Failure, Loading } from "./ui/bits";
import { Boundary } from "./ui/boundary";
import { Dialogs, showDialog } from "./ui/dialogs";
import { Icon, type IconName } from "./ui/icons";
import { Keys } from "./ui/keys";
import { useQueryClient } from "@tanstack/react-query";
import { setCsrf } from "./api/client";

const SignIn = lazy(() => import("./pages/sign-in"));
const Principal = lazy(() => import("./pages/principal"));
const Endpoints = lazy(() => import("./pages/endpoints"));
const Campaigns = lazy(() => import("./pages/campaigns"));
const Detectors = lazy(() => import("./pages/detectors"));
const Shadow = lazy(() => import("./pages/shadow"));
const Explain = lazy(() => import("./pages/explain"));
const Tokens = lazy(() => import("./pages/tokens"));
const Tuning = lazy(() => import("./pages/tuning"));
const Suppressions = lazy(() => import("./pages/suppressions"));
const System = lazy(() => import("./pages/system"));
const Users = lazy(() => import("./pages/users"));
const Audit = lazy(() => import("./pages/audit"));

interface Place {
  path: string;
  name: string;
  icon: IconName;
  key: string;
  may?: string;
  page: ComponentType;
}

const places: Place[] = [
  { path: "/alerts", name: "Alerts", icon: "alerts", key: "a", page: AlertsPage },
  { path: "/campaigns", name: "Campaigns", icon: "campaigns", key: "c", page: Campaigns },
  { path: "/endpoints", name: "Endpoints", icon: "endpoints", key: "e", page: Endpoints },
  { path: "/detectors", name: "Detectors", icon: "detectors", key: "d", page: Detectors, may: "detectors" },
  { path: "/shadow", name: "Shadow cases", icon: "shadow", key: "h", page: Shadow },
  { path: "/explain", name: "Explain", icon: "explain", key: "x", page: Explain, may: "requests" },
  { path: "/suppressions", name: "Suppressions", icon: "suppressions", key: "s", page: Suppressions },
  { path: "/tuning", name: "Tuning", icon: "tuning", key: "t", page: Tuning, may: "backtest" },
  { path: "/system", name: "System", icon: "system", key: "y", page: System, may: "system" },
  { path: "/users", name: "Users", icon: "users", key: "u", page: Users },
  { path: "/tokens", name: "Tokens", icon: "tokens", key: "k", page: Tokens, may: "tokens" },
  { path: "/audit", name: "Audit", icon: "audit", key: "l", page: Audit, may: "audit" },
];

function pageOf(path: string, may: (what: string) => boolean) {
  if (path.startsWith("/alerts/")) return <AlertPage key={path} id={decodeURIComponent(path.slice("/alerts/".length))} />;
  if (path.startsWith("/principals/")) return <Principal key={path} />;
  const place = places.find((p) => (path === p.path || path.startsWith(p.path + "/")) && (!p.may || may(p.may)));
  if (place) return <place.page />;
  return (
    <div className="empty">
      <h1>There is no such page</h1>
      <p>
        <Link to="/alerts">To the alerts</Link>
      </p>
    </div>
  );
}

function Theme() {
  const { theme } = usePrefs();
  const next = { auto: "light", light: "dark", dark: "auto" } as const;
  const icons = { auto: "auto", light: "sun", dark: "moon" } as const;
  const text = { auto: "as the system has it", light: "light", dark: "dark" }[theme];
  return (
    <Button className="icon" aria-label={`Colours: ${text}. Change`} onPress={() => setPrefs({ theme: next[theme] })}>
      <Icon name={icons[theme]} />
    </Button>
  );
}

function Who() {
  const me = useMe();
  const session = useSession();
  const client = useQueryClient();
  const s = session.data?.session;
  const leave = async () => {
    await ask("/api/v1/session", { method: "DELETE" });
    setCsrf("");
    client.clear();
    navigate("/sign-in");
  };
  return (
    <span className="who">
      {s ? (
        <>
          <span title={s.roles.join(", ")}>{s.display || s.user}</span>
          <Button className="link" onPress={() => void leave()}>
            Sign out
          </Button>
        </>
      ) : (
        <span className="muted" title={me.data?.roles.join(", ")}>
          {me.data?.kind === "local" ? "this machine, reading" : me.data?.name}
        </span>
      )}
    </span>
  );
}

function Frame() {
  const path = usePath();
  const me = useMe();
  const [menu, setMenu] = useState(false);
  const may = (what: string) => me.data?.may.includes(what) ?? false;
  const shown = places.filter((p) => !p.may || may(p.may));
  const go = Object.fromEntries(shown.map((p) => [`g ${p.key}`, () => navigate(p.path)]));
  const help = () => showDialog("Keys", (close) => <Keys close={close} places={shown.map((p) => ({ keys: `g ${p.key}`, text: p.name }))} />, { wide: true });
  useShortcuts({ ...go, "?": help });
  useEffect(() => setMenu(false), [path]);
  useEffect(() => {
    const place = places.find((p) => path.startsWith(p.path));
    document.title = place ? `${place.name} – weir` : "weir";
  }, [path]);
  return (
    <div className="frame">
      <a className="skip" href="#main">
        Skip to the page
      </a>
      <header className="top">
        <Button className="icon only-narrow" aria-label={menu ? "Close the menu" : "Menu"} aria-expanded={menu} onPress={() => setMenu(!menu)}>
          <Icon name={menu ? "close" : "menu"} />
        </Button>
        <Link to="/alerts" className="brand">
          weir
        </Link>
        <span className="space" />
        <Button className="icon wide-only" aria-label="Keys" onPress={help}>
          <Icon name="keys" />
        </Button>
        <Theme />
        <Who />
      </header>
      <nav className={menu ? "side open" : "side"} aria-label="Pages">
        {shown.map((p) => (
          <Link key={p.path} to={p.path} aria-current={path === p.path || path.startsWith(p.path + "/") ? "page" : undefined}>
            <Icon name={p.icon} /> {p.name}
          </Link>
        ))}
      </nav>
      <main id="main" tabIndex={0}>
        <Boundary key={path} what="This page">
          <Suspense fallback={<Loading />}>{pageOf(path, may)}</Suspense>
        </Boundary>
      </main>
    </div>
  );
}

/** Shell stands where a page will be. */
function Shell() {
  return (
    <main id="main">
      <h1 className="sr-only">weir</h1>
      <Loading what="weir" />
    </main>
  );
}

export function App() {
  const path = usePath();
  const session = useSession();
  const out = session.data && !session.data.session && !session.data.local;
  const asks = path === "/sign-in" || path === "/first";
  useEffect(() => {
    if (path === "/") navigate("/alerts", { replace: true });
    else if (out && !asks) navigate(session.data?.first ? "/first" : `/sign-in?to=${encodeURIComponent(location.pathname + location.search)}`, { replace: true });
  }, [path, out, asks, session.data]);
  let page;
  if (session.error && !session.data) page = <Failure error={session.error} what="weir cannot be reached" retry={() => void session.refetch()} />;
  else if (!session.data) page = <Shell />;
  else if (asks)
    page = (
      <Suspense fallback={<Shell />}>
        <SignIn />
      </Suspense>
    );
  else if (out) page = <Shell />;
  else page = <Frame />;
  return (
    <>
      {page}
      <Dialogs />
      <Toasts />
    </>
  );
}
