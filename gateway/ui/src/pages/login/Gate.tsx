import { type ReactNode, useEffect } from "react";
import { Icon } from "../../components/Icon";

/** What is around the pages before the login. */
export function Gate({ title, children }: { title: string; children: ReactNode }) {
  useEffect(() => {
    document.title = `${title} · UPM`;
  }, [title]);
  return (
    <main className="gate">
      <section className="card" aria-label={title}>
        <p className="brand">
          <Icon name="services" size={24} /> UPM
        </p>
        <h1>{title}</h1>
        {children}
      </section>
    </main>
  );
}
