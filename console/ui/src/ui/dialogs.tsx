// Dialogs that anything can open, a key as well as a button.
import { useSyncExternalStore, type ReactNode } from "react";
import { Dialog, Heading, Modal, ModalOverlay } from "react-aria-components";
import { Boundary } from "./boundary";

type Render = (close: () => void) => ReactNode;
interface Open {
  title: string;
  content: Render;
  wide: boolean;
}

let open: Open | null = null;
const changed = new Set<() => void>();

function set(o: Open | null) {
  open = o;
  for (const f of changed) f();
}

export function showDialog(title: string, content: Render, options: { wide?: boolean } = {}) {
  set({ title, content, wide: options.wide ?? false });
}

export const closeDialog = () => set(null);

const Content = ({ open: o }: { open: Open }) => o.content(closeDialog);

export function Dialogs() {
  const o = useSyncExternalStore(
    (f) => {
      changed.add(f);
      return () => void changed.delete(f);
    },
    () => open,
  );
  return (
    <ModalOverlay className="overlay" isDismissable isOpen={o !== null} onOpenChange={(is) => !is && set(null)}>
      <Modal className={o?.wide ? "modal wide" : "modal"}>
        <Dialog className="dialog">
          {o && (
            <>
              <Heading slot="title">{o.title}</Heading>
              <Boundary key={o.title} what="This dialog">
                <Content open={o} />
              </Boundary>
            </>
          )}
        </Dialog>
      </Modal>
    </ModalOverlay>
  );
}
